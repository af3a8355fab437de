"""`HookedDiffusers`: diffusers' own transformers, hooked where they are, in the user's own pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from jaxtyping import Shaped
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from workbench import arguments
from workbench.core import SITES, Edit
from workbench.errors import HookError, UnknownName
from workbench.models.diffusion.diffusers_families import transformer_of
from workbench.models.diffusion.in_place_calls import HookedAttention
from workbench.models.diffusion.in_place_edits import edit_hooks
from workbench.models.diffusion.in_place_recording import Recorded
from workbench.models.hook_arguments import pairs_of
from workbench.models.steps import split_step

#: Hook points of branches that no module of diffusers gives.
_INLINE = ("hook_attn_out", "hook_resid_mid", "hook_mlp_out")


class HookedDiffusers(Recorded):
    """A transformer of diffusers whose every head can be recorded and edited while its pipeline runs.

    DiT, PixArt, SD3 and Flux, unmodified: the attention call that their processors make is answered while a hook is in
    place. ``blocks.3.attn.hook_z`` is layer 3 of ``transformer_blocks``, ``single_blocks.3`` of Flux's
    ``single_transformer_blocks``; ``cross_attn`` is PixArt's attention to the text, ``attn2`` the second one of SD3.5's
    layers. A plain hook name means every step and ``@3`` step 3, the ``i`` that ``callback_on_step_end`` gets
    (`workbench.models.diffusion.pipeline_steps`): told by the scheduler of a pipeline, and of a transformer alone by
    timesteps, as far as they tell. Guidance's passes are inputs of the batch, in the pipeline's order: of diffusers'
    own, `DiTPipeline` has those with the class first, the others have those without the prompt first.

    Sites: ``q``, ``k`` (what attention receives, after norms and, in Flux, rotary: ``hook_rot_q``), ``v``, ``z``
    ``[batch, pos, head, d_head]``; ``hook_attn_scores`` and ``hook_pattern`` ``[batch, head, dest, src]``;
    ``hook_resid_pre`` and ``hook_resid_post`` of the image, and ``hook_text_resid_pre`` and ``hook_text_resid_post`` of
    a joint layer's text. diffusers applies gates inline, so ``hook_attn_out``, ``hook_resid_mid`` and ``hook_mlp_out``
    are absent. `wb.sweep_pipeline` sweeps over heads and steps of a pipeline; runs enter it at the edited step.

    Args:
        model: a pipeline, or its transformer. It is not modified.

    Attributes:
        hf: the transformer. pipeline: the pipeline, if it was given.
        step: the step that is running, for hooks.
        n_layers: how many layers there are, by the name of their list.
        n_heads: heads of each attention module.

    Raises:
        UsageError: neither a pipeline nor a transformer.
        UnsupportedModel: a U-Net, a class that is not among these, or a compiled model.

    Examples:
        >>> import torch
        >>> from diffusers import DiTTransformer2DModel
        >>> small = dict(num_attention_heads=2, attention_head_dim=8, in_channels=1, num_layers=2, sample_size=8)
        >>> dit = wb.HookedDiffusers(DiTTransformer2DModel(**small, patch_size=2, num_embeds_ada_norm=10).eval())
        >>> noise, time, label = torch.randn(1, 1, 8, 8), torch.tensor([999]), torch.tensor([3])
        >>> _, cache = dit.run_with_cache(noise, timestep=time, class_labels=label, names_filter="blocks.1.attn.hook_z")
        >>> cache["blocks.1.attn.hook_z@0"].shape
        torch.Size([1, 16, 2, 8])
    """

    modality: ClassVar[str] = "diffusion"
    n_layers: dict[str, int]

    def __init__(self, model: Any) -> None:
        hf, family = transformer_of(model)
        super().__init__(hf, None if model is hf else model)
        self.n_steps, self.n_layers = None, {}
        for name, stack in family.items():
            layers: Any = hf.get_submodule(stack.layers)
            self.n_layers[name] = len(layers)
            setattr(self, name, nn.ModuleList(self._hooks_of(f"{name}.{i}", x, stack) for i, x in enumerate(layers)))
        first: Any = self._attentions[0].module
        self.n_heads = int(first.heads)
        self.setup()

    def _hooks_of(self, name: str, layer: nn.Module, stack: Any) -> nn.Module:
        """A layer's hook points."""
        self._blocks[name], hooks = layer, nn.Module()
        streams = ["", "text_"] if stack.joint else [""]
        for stream in streams:
            hooks.add_module(f"hook_{stream}resid_pre", HookPoint())
        for own, attends in stack.attentions.items():
            module = getattr(layer, attends.module, None)
            if module is None:
                continue
            rot = "rot_" if stack.rotary else ""
            points = {"q": f"hook_{rot}q", "k": f"hook_{rot}k", "v": "hook_v", "scores": "hook_attn_scores"}
            points |= {"pattern": "hook_pattern", "z": "hook_z"}
            part = nn.Module()
            for point in points.values():
                part.add_module(point, HookPoint())
            hooks.add_module(own, part)
            sites = {site: f"{name}.{own}.{point}" for site, point in points.items()}
            self._attentions.append(HookedAttention(module, attends, sites))
        for stream in streams:
            if not (stream and getattr(layer, "context_pre_only", False)):  # the last layer of SD3 returns no text
                hooks.add_module(f"hook_{stream}resid_post", HookPoint())
        return hooks

    # --- runs ---------------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The transformer's own forward, with the active hooks applied."""
        with self._installed():
            return self.hf(*args, **kwargs)

    @contextmanager
    def hooks(
        self, fwd_hooks: Any = (), bwd_hooks: Any = (), *args: Any, source: Any = None, **kwargs: Any
    ) -> Iterator[Any]:
        """As in TransformerLens; while it lasts, the transformer is hooked wherever this thread calls it, so that
        ``with dit.hooks([(name, f)]): pipe(prompt)`` hooks the pipeline.

        Args:
            fwd_hooks: pairs ``(hook point, function)``, and `wb.Edit`. An edit's layer counts those of ``blocks``, of
                Flux's other list with the site ``"single_blocks.attn.hook_z"``; other attentions are such sites as
                ``"cross_attn.hook_z"``. Its position may be ``"image"`` or ``"text"``: of queries, z and rows of
                patterns, or of keys and values.
            source: what ``patch`` edits take their values from: activations that `recording` gave of another run, of
                the same shapes, each in its own step.

        Raises:
            UnknownName: the model has no hook point of that name.
            UsageError: an edit that cannot be made, or a patch without its values.
            HookError: a hook was never called (a step beyond the schedule, for one), or changed a shape; `source` has
                other rows than this run; the step of a name with ``@`` cannot be told.
            NotFinite: sampling gave NaN or infinity.

        Examples:
            >>> # with dit.recording("blocks.3.attn.hook_z") as other:
            >>> #     pipe("a red cube")
            >>> # with dit.hooks([wb.Edit("z", 3, head=2, step=5)], source=other):
            >>> #     pipe("a blue ball")
        """
        entries = [fwd_hooks] if isinstance(fwd_hooks, Edit) else fwd_hooks
        edits = [x for x in entries if isinstance(x, Edit)] if isinstance(entries, list | tuple) else []
        edited, of_edits = edit_hooks(self, edits, source)
        forward = [*pairs_of("fwd_hooks", [x for x in entries if not isinstance(x, Edit)] if edits else entries)]
        forward += edited
        with self._installed(), super().hooks(forward, bwd_hooks, *args, **kwargs):
            before = self._calls.copy()
            yield self
            calls = self._calls - before
            for hook in of_edits:
                hook.finish(every={step for name, step in calls if name == hook.name})
        for name, _ in forward:
            if isinstance(name, str):
                plain, step = split_step(name)
                reached = {at for point, at in calls if point == plain}
                if reached and step not in (None, *reached):
                    n = max(reached) + 1
                    had = "1 step, step 0" if n == 1 else f"{n} steps, 0 to {n - 1}"
                    raise HookError(f"Nothing happened at {name}: this run had {had}. Give one of them.")
                if not reached:
                    raise HookError(f"Nothing happened at {name}: the site was never reached in this run.")

    # --- sites --------------------------------------------------------------------------------------------------------

    def hook_name(self, site: str, layer: int) -> str:
        """The full hook name of a short site name (``z``) or of a name without its layer (``cross_attn.hook_z``,
        ``single_blocks.attn.hook_z``).

        Raises:
            UnknownName: the model has no such site.
            UsageError: no such layer.
        """
        part = SITES.get(arguments.text("site", site, "the name of a site"), site)
        stack = next((stack for stack in self.n_layers if part.startswith(f"{stack}.")), "blocks")
        part = part.removeprefix(f"{stack}.")
        name = f"{stack}.{arguments.index('layer', layer, self.n_layers[stack], 'layer')}."
        for own in (part, part.replace("hook_rot_", "hook_")):
            if name + own in self.hook_dict:
                return name + own
        self._check_inline(name + part)
        parts = {hook.removeprefix(name) for hook in self.hook_dict if hook.startswith(name)}
        raise UnknownName("site", site, {s for s in SITES if SITES[s] in parts} | parts, argument="site")

    def has_heads(self, name: str) -> bool:
        """Whether activations at a hook point have an axis of heads.

        Raises:
            UnknownName: no such hook point.
        """
        self._check_point(name)
        return any(name in attention.sites.values() for attention in self._attentions)

    def reads_sources(self, name: str) -> bool:
        """Whether positions at a hook point are those that are attended to: of keys and values.

        Raises:
            UnknownName: no such hook point.
        """
        self._check_point(name)
        return any(name in (attention.sites["k"], attention.sites["v"]) for attention in self._attentions)

    def part(
        self, name: str, x: Shaped[Tensor, "batch *rest"], dest: str | None = None, src: str | None = None
    ) -> Shaped[Tensor, "batch *part"]:
        """The image's or the text's part of an activation, a view: writing to it in a hook writes to the activation.

        Args:
            name: the hook point, with or without a step.
            x: its activation, all positions of it.
            dest: ``"image"`` or ``"text"``: of q, z, or of the rows of a pattern. None for all.
            src: the same of k, v, or of the columns of a pattern.

        Raises:
            UnknownName: no such hook point.
            UsageError: no such part, or an activation of another length than that of the last call.

        Examples:
            >>> # in a hook: no patch attends to the text in head 3
            >>> # dit.part(hook.name, pattern, "image", "text")[:, 3] = 0
        """
        plain = split_step(arguments.text("name", name, "the name of a hook point"))[0]
        places = {point: (site, a.attends) for a in self._attentions for site, point in a.sites.items()}
        if plain not in places:
            raise UnknownName("site", plain, places)
        site, attends = places[plain]
        axes = {"dest": 1} if site in "qz" else {"src": 1} if site in "kv" else {"dest": 2, "src": 3}
        for which, requested in (("dest", dest), ("src", src)):
            if requested is None:
                continue
            parts = getattr(attends, which)
            if which not in axes:
                raise arguments.refusal(which, requested, "None", because=f"{plain} has no such axis")
            arguments.one_of(which, requested, parts)
            lengths, axis = [self._lengths.get(part, -1) for part in parts], axes[which]
            if x.shape[axis] != sum(lengths):
                expected = f"{sum(lengths)} positions, as in the last call of the model"
                raise arguments.refusal("x", x, expected, because=f"it has {x.shape[axis]}")
            at = parts.index(requested)
            x = x.narrow(axis, sum(lengths[:at]), lengths[at])
        return x

    def train(self, mode: bool = True) -> HookedDiffusers:
        self.hf.train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HookedDiffusers:
        self.hf._apply(fn, recurse)
        return self

    def _of_step(self, name: Any, hook: Any, dir: str) -> tuple[Any, Any]:
        if isinstance(name, str):
            self._check_inline(split_step(name)[0])
        return super()._of_step(name, hook, dir)

    def _check_point(self, name: Any) -> None:
        """Refuse what is no hook point of this model."""
        if arguments.text("name", name, "the name of a hook point") not in self.hook_dict:
            raise UnknownName("site", name, self.hook_dict, argument="name")

    def _check_inline(self, name: str) -> None:
        """Refuse a branch that no module of diffusers gives."""
        if (part := name.rpartition(".")[2]) in _INLINE:
            kind = type(self.hf).__name__
            hint = f"{kind} applies gates inline, so that {part.removeprefix('hook_')} has no place to be read."
            raise UnknownName("site", name, (), hint)
