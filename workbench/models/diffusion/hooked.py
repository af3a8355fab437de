"""`HookedDiT`: a diffusion transformer whose every head can be recorded and edited, in every sampling step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench import arguments
from workbench.inputs.paired import PairedInputs
from workbench.models import self_check
from workbench.models.anatomy import Anatomy
from workbench.models.attention_edits import AttentionEdits, Tap
from workbench.models.diffusion.branches import apart, over_branches
from workbench.models.diffusion.diffusers_dit import DiffusersDiT, as_called
from workbench.models.diffusion.dit import DiT
from workbench.models.diffusion.latent_inputs import LatentInputs
from workbench.models.diffusion.readout import n_outputs
from workbench.models.diffusion.resumable import ResumableSampling
from workbench.models.diffusion.sampling import Sampling
from workbench.models.diffusion.step_hooks import StepHooks
from workbench.models.hooked import HookedModel
from workbench.models.resumable import NotFinite
from workbench.models.verdict import adopt


class HookedDiT(StepHooks, LatentInputs, HookedModel):
    """A diffusion transformer whose every head can be recorded and edited, in every sampling step or in some.

    Its outputs are read of the finished sample. A plain hook name means every step, and ``blocks.2.attn.hook_z@3``
    step 3. Under guidance a row has two passes, with and without the label: hooks see them as one activation of twice
    the positions, the labelled ones first.

    An input is the noise that sampling starts from, in patches ``[pos, pixel]``, with the label as its last column;
    under guidance it has the positions twice, the second time with the label for none. `wb.latents` makes them.

    Args:
        hf: a `workbench.models.diffusion.dit.DiT`, or diffusers' ``DiTTransformer2DModel``, which is hooked as it is:
            it has no ``attn_out``, ``resid_mid``, ``mlp_out``, and predicts what the sampler needs (noise by default).
        processor: a `Sampling` with all that follows, for copies of a model.
        provenance: where the weights come from (JSON-able), reported in every result.
        sampler: ``"euler"`` (rectified flow) or ``"ddim"``; by default the one for what the model predicts.
        steps: of the sampler, at most 1000; 25 by default.
        guidance: g of classifier-free guidance, ``p_none + g (p_label − p_none)``; None, the default, for one pass.
        readout: what metrics read. None: the sample's pixels. A vision model or a module: its outputs, as logits of
            classes. A function ``f(images [row, channel, row, column]) -> [row, n]``. ``"velocity@3"``: the velocity in
            step 3, after guidance.
        check: run the load-time self-check.

    Attributes:
        sampling: sampler, steps, guidance and readout.
        n_steps: how many steps are run.
        step: the step that is running, for hooks.

    Raises:
        UsageError: a setting that is not possible.
        UnsupportedModel: the self-check failed; the message gives the reason.

    Examples:
        >>> from workbench.models.diffusion.dit import DiT, DiTConfig
        >>> model = wb.HookedDiT(DiT(DiTConfig()).eval(), steps=4, guidance=2.0)
        >>> model.n_steps, model.n_layers, model.n_heads, model.labels(model.trial()[0])[15:18]
        (4, 6, 4, ('3,3', 'none 0,0', 'none 0,1'))
    """

    modality: ClassVar[str] = "diffusion"
    parts: ClassVar[Anatomy] = Anatomy(
        layers="blocks",
        embed="patch_embed",
        position_embed="position_embed",
        final_norm="norm",
        attention="attn",
        mlp="mlp",
        attn_out="gate1",
        mlp_out="gate2",
        norm1="norm1",
        norm2="norm2",
        query="q_proj",
        key="k_proj",
        value="v_proj",
        output="o_proj",
        mlp_output="2",
    )

    def __init__(
        self,
        hf: nn.Module,
        processor: Any = None,
        provenance: Mapping[str, Any] | None = None,
        *,
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        readout: Any = None,
        check: bool = True,
    ) -> None:
        hf = as_called(hf, sampler)
        if not isinstance(hf, DiT | DiffusersDiT):
            do = "wb.HookedDiffusers hooks diffusers' other models."
            raise arguments.refusal("hf", hf, "a DiT, or diffusers' DiTTransformer2DModel", do)
        check = arguments.flag("check", check)
        if isinstance(processor, Sampling):
            settings = {"sampler": sampler, "steps": steps, "guidance": guidance, "readout": readout}
            processor = processor.changed(hf.config, **{k: v for k, v in settings.items() if v is not None})
        elif processor is not None:
            raise arguments.refusal("processor", processor, "None, or another model's sampling")
        else:
            processor = Sampling.of(hf.config, sampler, steps, guidance, readout)
        super().__init__(hf, processor, provenance, check=False)
        self.step, self._one_pass = 0, False
        #: Why runs are not resumed in the steps in use, by code, precision and device; empty where they are.
        self.sampled_as: dict[tuple[str, ...], str] = {}
        self.first_attributes |= {"step", "_one_pass", "sampled_as"}
        if check:
            self.check_with(self_check.check)

    # --- sampling ---------------------------------------------------------------------------------------------------

    @property
    def sampling(self) -> Sampling:
        """Sampler, steps, guidance and readout."""
        return self.processor

    def resampled(self, **changes: Any) -> HookedDiT:
        """A model of the same weights that is sampled in another way; what was checked is not checked again.

        Args:
            changes: ``sampler``, ``steps``, ``guidance`` or ``readout``.

        Raises:
            UsageError: a setting that is not possible.
        """
        for name in changes:
            arguments.one_of("changes", name, ("sampler", "steps", "guidance", "readout"))
        copied = type(self)(self.hf, self.sampling.changed(self.hf.config, **changes), self.provenance, check=False)
        adopt(copied, self)
        copied.identity.take_over(self.identity)
        return copied

    @property
    def n_steps(self) -> int:
        """How many steps are run."""
        return 1 if self._one_pass_now else len(self.sampling.schedule)

    @property
    def branches(self) -> int:
        """How many passes a step takes: two under guidance."""
        return 1 if self._one_pass_now else self.sampling.branches

    @cached_property
    def n_positions(self) -> int:
        """Positions of one pass."""
        return math.prod(self.hf.config.grid)

    @property
    def outputs_are(self) -> str:
        """What metrics read: ``"pixels"``, ``"logits"``, …"""
        return self.sampling.readout.reads

    @property
    def output_names(self) -> tuple[str, ...]:
        """The classes of a readout that gives logits, by name where it has names."""
        if self.outputs_are != "logits":
            return ()
        return tuple(getattr(self.sampling.readout.read, "output_names", ())) or tuple(map(str, range(self.n_outputs)))

    @property
    def _one_pass_now(self) -> bool:
        return getattr(self, "_one_pass", False)

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """While it lasts, a run is one pass through the layers, in the first step and with the label alone: the
        outputs are the prediction, for checks of the layers."""
        with self.lock:
            before, self._one_pass, n = self._one_pass_now, True, self.n_outputs
            self.n_outputs = self.n_positions * self.hf.to_patch.out_features
            try:
                yield
            finally:
                self._one_pass, self.n_outputs = before, n

    def outputs(self, inputs: Float[Tensor, "row pos column"]) -> Float[Tensor, "row n"]:
        """The readout of the finished samples."""
        if self._one_pass_now:
            patches, labels = self.passes(inputs)
            return self.hf.predict(patches, self.time(0, len(patches)), labels).flatten(1)
        return self.read_image(self.sampled(inputs))

    def sampled(
        self,
        inputs: Float[Tensor, "row pos column"],
        in_step: Callable[[int], Any] | None = None,
        watch: Callable[[int, Tensor, Tensor], None] | None = None,
    ) -> Float[Tensor, "row some_pos pixel"]:
        """The finished samples, in patches (or the prediction that is read).

        Args:
            in_step: the context of each step's pass.
            watch: called in each step with the latents before it and the passes' predictions.
        """
        latent, labels = self.latent(inputs), self.passes(inputs)[1]
        for step in range(self.n_steps):
            self.step = step
            patches = self.patches_of(latent)
            if in_step is None:
                prediction = self.hf.predict(patches, self.time(step, len(patches)), labels)
            else:
                with in_step(step):
                    prediction = self.hf.predict(patches, self.time(step, len(patches)), labels)
            after = self.sampling.after_step(step, latent, prediction)
            if watch is not None:
                watch(step, latent, prediction)
            latent = after
        return latent

    def latent(self, inputs: Float[Tensor, "row pos column"]) -> Float[Tensor, "row some_pos pixel"]:
        """The noise of inputs, in patches, at least in float32."""
        noise = inputs[:, : self.n_positions, :-1].to(self.device)
        return noise.to(torch.promote_types(torch.promote_types(noise.dtype, torch.float32), self.dtype))

    def passes(
        self, inputs: Float[Tensor, "row pos column"]
    ) -> tuple[Float[Tensor, "pass some_pos pixel"], Int[Tensor, "pass"]]:
        """The patches and the label of each pass of the first step."""
        labels = apart(inputs, self.branches)[:, 0, -1].round().long().to(self.device)
        return self.patches_of(self.latent(inputs)), labels

    def patches_of(self, latent: Float[Tensor, "row pos pixel"]) -> Float[Tensor, "pass pos pixel"]:
        """What each pass gets of the latents, in the model's precision."""
        return latent.repeat_interleave(self.branches, 0).to(self.dtype)

    def time(self, step: int, n: int) -> Float[Tensor, "n"]:
        """The time of a step, for n passes."""
        return torch.full((n,), self.sampling.schedule[step].time, device=self.device)

    def read_image(self, latent: Float[Tensor, "row pos pixel"]) -> Float[Tensor, "row n"]:
        """The readout of finished samples."""
        readout = self.sampling.readout
        return latent.flatten(1) if readout.step is not None else readout(self.hf.unpatchify(latent))

    def images(self, inputs: Any) -> Float[Tensor, "row channel *size"]:
        """The finished samples of inputs as images, without edits; of pairs, the clean ones.

        Raises:
            UsageError: inputs that are none.
        """
        prepared = self.prepare(inputs, "inputs")
        with torch.no_grad(), self.lock:
            return self.hf.unpatchify(self.sampled(torch.stack(list(prepared.clean))))

    # --- what the engine needs of a model -----------------------------------------------------------------------------

    def parts_of(self, hf: Any) -> tuple[Anatomy, bool]:
        return (hf.parts, True) if isinstance(hf, DiffusersDiT) else super().parts_of(hf)

    def count_outputs(self) -> int:
        readout, config = self.sampling.readout, self.hf.config
        readout.require_evaluation()
        if readout.step is not None:
            return math.prod(config.image_shape)
        return n_outputs(readout, config.image_shape, torch.promote_types(self.dtype, torch.float32), self.device)

    def resumable_form(self) -> ResumableSampling:
        self.sampling.readout.require_evaluation()
        return ResumableSampling(self)

    def info(self, inputs: PairedInputs) -> dict[str, Any]:
        info = {**super().info(inputs), **self.sampling.info()}
        in_use = next(reversed(self.sampled_as.values()), "")
        return info | ({"exact": "full forwards"} if in_use else {})

    def identity_facts(self) -> dict[str, Any] | None:
        """How the model is sampled, and the readout with the hash of its weights."""
        facts = self.sampling.facts()
        return {**facts, **self.hf.facts()} if facts is not None and isinstance(self.hf, DiffusersDiT) else facts

    def forward(self, input: Tensor) -> Float[Tensor, "row n"]:
        """The readout of finished samples of inputs ``[row, pos, column]``, with the active hooks applied in each step.

        Raises:
            UsageError: inputs that are not as `trial` gives them.
            HookError: a hook made the sample NaN or infinite.
        """
        if not isinstance(input, Tensor) or input.ndim != 3:
            raise arguments.refusal("input", input, "a tensor [input, position, column]", "Use wb.latents.")
        try:
            return super().forward(input)
        except NotFinite as error:
            raise error.after(f"the hooks at {', '.join(self._active_hooks())}") from None

    # --- hooks --------------------------------------------------------------------------------------------------------

    @contextmanager
    def running(
        self,
        taps: Mapping[str, Tap],
        attention_edits: Mapping[int, AttentionEdits] | None = None,
        must_fire: bool = True,
    ) -> Iterator[None]:
        """As for every model; taps see the passes of guidance as positions of one activation, and so is z that is
        frozen."""
        if (n := self.branches) > 1:
            length = self.n_positions
            taps = {name: over_branches(name, tap, n, length) for name, tap in taps.items()}
            attention_edits = {
                layer: edits if edits.frozen is None else replace(edits, frozen=apart(edits.frozen, n))
                for layer, edits in (attention_edits or {}).items()
            }
        with super().running(taps, attention_edits, must_fire):
            yield
