"""The resumable form of a diffusion transformer: it is entered at any layer of any sampling step."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from workbench.cache.keys import digest
from workbench.cache.notes import read_note, write_note
from workbench.models.attention_edits import AttentionEdits
from workbench.models.diffusion.branches import apart, together
from workbench.models.diffusion.sampling_proof import why_not_resumed
from workbench.models.diffusion.step_taps import running_all_steps, same_in_all_steps
from workbench.models.resumable import Stream, Tap, TapsFrom

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.cache import Store
    from workbench.inputs.paired import PairedInputs
    from workbench.models.diffusion.hooked import HookedDiT


@dataclass
class SamplingRun:
    """A base run: `streams[depth]` enters a depth, and the last one is read out."""

    streams: list[Stream] = field(default_factory=list)

    @property
    def size(self) -> int:
        return self.streams[0][0].shape[0]

    @property
    def length(self) -> int:
        return self.streams[0][0].shape[1]


class ResumableSampling:
    """`workbench.models.resumable.ResumableModel` over a `workbench.models.diffusion.hooked.HookedDiT`.

    A row carries the residual stream ``[row, pos, d_model]``, the latent ``[row, pos of one pass, pixel]``, and of each
    pass its label ``[row, pass]`` and its condition ``[row, pass, d_model]`` in the step.
    """

    causal = False

    def __init__(self, model: HookedDiT) -> None:
        self.model, self.sampling = model, model.sampling
        self.n_steps, self.branches = model.n_steps, model.branches
        self.n_layers, self.n_heads, self.n_kv_heads = model.n_layers, model.n_heads, model.n_kv_heads
        self.resumes, self.why_not = model.resumable, model.why_not_resumable

    def prove(self, inputs: PairedInputs, store: Store | None, patterns: bool = False) -> None:
        """Find out, before anything is resumed, whether that is exact (once: every input has the same length)."""
        if self.resumes:
            verdict = self.model.proofs.resumption(inputs, store, patterns)
            self.resumes, self.why_not = verdict.resumes, verdict.why_not
        if self.resumes:
            self.why_not = self._why_not_sampled(inputs, store)
            self.resumes = not self.why_not

    def _why_not_sampled(self, inputs: PairedInputs, store: Store | None) -> str:
        """Why runs that enter a step are not exact as this model is sampled; empty where they are. Found out once."""
        model = self.model
        key = (model.identity.of_code(), str(model.dtype), model.device.type)
        if key not in model.sampled_as:
            identity = None if store is None else model.identity.current()
            place = None if identity is None else digest(identity, "sampling")
            note = read_note(store, place)
            if note is None:
                rows = torch.stack([inputs.clean[0], inputs.corrupt[-1]]).to(model.device)
                with model.lock:
                    note = why_not_resumed(self, rows)
                write_note(store, place, note)
            model.sampled_as[key] = note
            if note:
                warnings.warn(
                    f"{type(model.hf).__name__}: sampled in these steps, resuming {note}, so sweeps run full forward "
                    "passes (exact, but slower).",
                    stacklevel=5,
                )
        model.sampled_as[key] = model.sampled_as.pop(key)  # the last one is that in use
        return model.sampled_as[key]

    @property
    def device(self) -> torch.device:
        """Where activations are computed, and where cached ones are put back."""
        return self.model.device

    def hook_name(self, site: str, layer: int) -> str:
        return self.model.hook_name(site, layer)

    def embed(self, inputs: Shaped[Tensor, "row pos column"]) -> Stream:
        latent, (_, labels) = self.model.latent(inputs), self.model.passes(inputs)
        return self._entering(0, latent, labels.unflatten(0, (-1, self.branches)))

    @torch.no_grad()
    def base_run(
        self, inputs: Shaped[Tensor, "row pos column"], taps: Mapping[int, Mapping[str, Tap]] | None = None
    ) -> SamplingRun:
        base, stream, taps = SamplingRun(), self.embed(inputs), taps or {}
        for step in range(self.n_steps):
            with self.model.running(taps.get(step, {})):
                self.model.step = step
                for layer in range(self.n_layers):
                    base.streams.append(stream)
                    stream = self._through(step, layer, stream)
        base.streams.append(stream)
        return base

    def truncate(self, base: SamplingRun, length: int) -> SamplingRun:
        raise AssertionError("every position of a diffusion transformer sees every other")

    def stream_at(self, base: SamplingRun, depth: int, rows: Int[Tensor, "row"], start: int) -> Stream:
        return tuple(part[rows] for part in base.streams[depth])

    def block(
        self,
        base: SamplingRun,
        depth: int,
        rows: Int[Tensor, "row"],
        start: int,
        stream: Stream,
        taps: TapsFrom,
        frozen: Tensor | None = None,
        expand: frozenset[str] = frozenset(),
        all_positions: bool = False,
    ) -> Stream:
        step, layer = divmod(depth, self.n_layers)
        with self.model.running(taps(start), {layer: AttentionEdits(frozen=frozen, expand=expand)}):
            self.model.step = step
            return self._through(step, layer, stream)

    def readout(
        self, base: Any, rows: Int[Tensor, "row"], stream: Stream, tokens: Int[Tensor, "n"] | None = None
    ) -> Float[Tensor, "row n"]:
        outputs = self.model.read_image(stream[1])
        return outputs if tokens is None else outputs[:, tokens]

    @torch.no_grad()
    def full_forward(
        self,
        inputs: Shaped[Tensor, "row pos column"],
        taps: Mapping[int, Mapping[str, Tap]],
        tokens: Int[Tensor, "n"] | None = None,
        expand: Mapping[int, frozenset[str]] | None = None,
    ) -> Float[Tensor, "row n"]:
        with self.model.lock:
            outputs = self.model.read_image(self._sampled(inputs, taps, expand))
        return outputs if tokens is None else outputs[:, tokens]

    @torch.no_grad()
    def trajectory(
        self,
        inputs: Shaped[Tensor, "row pos column"],
        taps: Mapping[int, Mapping[str, Tap]],
        expand: Mapping[int, frozenset[str]] | None = None,
    ) -> tuple[Float[Tensor, "row state channel *size"], Float[Tensor, "row step channel *size"]]:
        """The images of `full_forward` over the steps: as they are before each step and at the end, and what the
        prediction of each step points at."""
        before: list[Tensor] = []
        estimates: list[Tensor] = []

        def watch(step: int, latent: Tensor, prediction: Tensor) -> None:
            before.append(latent)
            estimates.append(self.sampling.estimate(step, latent, prediction))

        with self.model.lock:
            finished = self._sampled(inputs, taps, expand, watch)
        latents, pointed_at = torch.stack([*before, finished], 1), torch.stack(estimates, 1)
        return self._images(latents), self._images(pointed_at)

    def weights_frozen(self) -> AbstractContextManager[None]:
        return self.model.weights_frozen()

    def identity(self) -> bytes | None:
        """What the cache keys of this model's activations begin with, sampler and readout among it; None where nothing
        may be cached now."""
        return self.model.identity.current()

    def _sampled(
        self,
        inputs: Shaped[Tensor, "row pos column"],
        taps: Mapping[int, Mapping[str, Tap]],
        expand: Mapping[int, frozenset[str]] | None,
        watch: Callable[[int, Tensor, Tensor], None] | None = None,
    ) -> Float[Tensor, "row some_pos pixel"]:
        """The finished samples, in patches, with taps in the steps' passes."""
        model, edits = self.model, {layer: AttentionEdits(expand=sites) for layer, sites in (expand or {}).items()}
        if same_in_all_steps(taps, self.n_steps):
            with running_all_steps(model, taps, edits):
                return model.sampled(inputs, watch=watch)
        return model.sampled(inputs, lambda step: model.running(taps.get(step, {}), edits), watch)

    def _images(self, patches: Float[Tensor, "row state pos pixel"]) -> Float[Tensor, "row state channel *size"]:
        return self.model.hf.unpatchify(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])

    # --- one layer of one step ----------------------------------------------------------------------------------------

    def _through(self, step: int, layer: int, stream: Stream) -> Stream:
        """The stream after a layer; behind the last one of a step, as it enters the next step."""
        (x, latent, labels, condition), n, hf = stream, self.branches, self.model.hf
        passes = hf.through(layer, apart(x, n), condition.flatten(0, 1))
        if layer < self.n_layers - 1:
            return together(passes, n), latent, labels, condition
        latent = self.sampling.after_step(step, latent, hf.prediction(passes, condition.flatten(0, 1)))
        if step + 1 < self.n_steps:
            return self._entering(step + 1, latent, labels)
        return together(passes, n), latent, labels, condition

    def _entering(self, step: int, latent: Float[Tensor, "row pos pixel"], labels: Int[Tensor, "row passes"]) -> Stream:
        """What enters the first layer of a step."""
        model, n = self.model, self.branches
        condition = model.hf.condition(model.time(step, labels.numel()), labels.flatten())
        x = together(model.hf.embed(model.patches_of(latent)), n)
        return x, latent, labels, condition.unflatten(0, labels.shape)
