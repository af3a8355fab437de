"""Taps: functions placed at named sites of an unmodified Hugging Face model for the length of one run.

``with tapped(model, {"blocks.9.attn.hook_z": f}): ...`` calls ``f(activation)`` at that site, in TransformerLens's
layout; what it returns replaces the activation. Every way of reading or editing a model goes through here, so the rules
are in one place: an unknown site, a tap that never fires and a changed shape are errors, and everything is removed
on every way out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.errors import HookError, UnknownName
from workbench.models.attention_edits import AttentionEdits, PartialTap, Tap
from workbench.models.attention_hook import set_edits
from workbench.models.explicit_attention import with_gradient_of
from workbench.models.norms import norm_bias, norm_scale

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel

Handles = list[Any]
Installer = Callable[["HookedModel", int, Tap], Handles]


@contextmanager
def tapped(
    model: HookedModel,
    taps: Mapping[str, Tap],
    *,
    attention_edits: Mapping[int, AttentionEdits] | None = None,
    must_fire: bool = True,
) -> Iterator[None]:
    """Install `taps` (hook name → function) for the length of the block.

    Args:
        model: the hooked model, whose lock the caller holds.
        taps: functions of the activation at each hook name; None from a function leaves the activation alone.
        attention_edits: what attention layers do besides: resume, freeze z or pass on their inputs.
        must_fire: whether a tap that was never called is an error.

    Raises:
        UnknownName: a hook name the model does not have.
        HookError: a tap changed a shape, or never fired.
    """
    fired: set[str] = set()
    edits: dict[int, AttentionEdits] = dict(attention_edits or {})
    with ExitStack() as stack:
        if unknown := taps.keys() - model.hook_order.keys():
            raise UnknownName("site", min(unknown), model.hook_order)
        for name in sorted(taps, key=model.hook_order.__getitem__):
            layer, part = split(name)
            tap = checked(name, taps[name], fired)
            attention_site = model.attention_site(part)
            if attention_site is not None:
                edits.setdefault(layer, AttentionEdits()).taps[attention_site] = tap
                continue
            for handle in _INSTALL[part](model, layer, tap):
                stack.callback(handle.remove)
        for layer, layer_edits in edits.items():
            set_edits(model.attentions[layer], layer_edits)
            stack.callback(set_edits, model.attentions[layer], None)
        yield
    if must_fire and (silent := taps.keys() - fired):
        raise HookError(f"Nothing happened at {', '.join(sorted(silent))}: the site was never reached in this run.")


def split(name: str) -> tuple[int, str]:
    """``blocks.9.attn.hook_z`` → ``(9, "attn.hook_z")``; names outside the blocks have layer −1."""
    if name.startswith("blocks."):
        _, layer, part = name.split(".", 2)
        return int(layer), part
    return -1, name


def checked(name: str, tap: Tap, fired: set[str]) -> Tap:
    """A tap that notes that it was called, keeps the dtype, and may change what it gets in place.

    Raises:
        HookError: when called, it returned another shape.
    """
    on_part = tap.tap if isinstance(tap, PartialTap) else tap
    of_pattern = name.endswith(("hook_pattern", "hook_attn_scores"))

    def call(x: Tensor) -> Tensor | None:
        fired.add(name)
        shape, version = x.shape, _version(x)
        new = on_part(x)
        # Hook points return what they get, perhaps changed in place.
        if new is None or (of_pattern and new is x):
            return None if version is not None and version == _version(x) else x
        if not isinstance(new, Tensor) or new.shape != shape:
            returned = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
            raise HookError(
                f"The edit at {name} gave {returned} where {tuple(shape)} came in. An edit must keep the shape."
            )
        return new.to(x.dtype)

    return replace(tap, tap=call) if isinstance(tap, PartialTap) else call


def _version(x: Tensor) -> int | None:
    """How often a tensor was changed in place; None where torch does not count."""
    return None if x.is_inference() else x._version


# --- how each site is reached -------------------------------------------------------------------------------------


def on_input(module: nn.Module, tap: Tap) -> Handles:
    """Tap the first argument of `module`."""

    def hook(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        x = args[0] if args else kwargs["hidden_states"]
        new = tap(x)
        if new is None:
            return None
        return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

    return [module.register_forward_pre_hook(hook, with_kwargs=True)]


def on_output(module: nn.Module, tap: Tap) -> Handles:
    """Tap the output of `module`, the first one where it returns a tuple."""

    def hook(_: nn.Module, args: Any, output: Any) -> Any:
        x = output[0] if isinstance(output, tuple) else output
        new = tap(x)
        if new is None:
            return None
        return (new, *output[1:]) if isinstance(output, tuple) else new

    return [module.register_forward_hook(hook)]


def on_branch(model: HookedModel, layer: int, part: str, tap: Tap) -> Handles:
    """Tap the output of a branch of a layer in the shape of the residual stream.

    Some mixtures of experts return ``[batch · pos, d_model]``, and their layer reshapes it. The tap gets, and returns,
    ``[batch, pos, d_model]``: it would otherwise write to rows and positions that are others.
    """
    shape: list[torch.Size] = []

    def unflattened(x: Tensor) -> Tensor | None:
        stream = shape[-1]
        if x.ndim != 2 or len(stream) != 3 or x.shape != (stream[0] * stream[1], stream[2]):
            return tap(x)
        new = tap(x.reshape(stream))
        return None if new is None else new.reshape(x.shape)

    return on_input(model.layer(layer), lambda x: shape.append(x.shape)) + on_output(
        model.part(layer, part), unflattened
    )


def _resid_mid(model: HookedModel, layer: int, tap: Tap) -> Handles:
    """The residual stream between the branches. It has no module of its own: an edit is written into the attention
    branch's output, so that the skip connection carries it as well."""
    stream: list[Tensor] = []

    def branch(x: Tensor) -> Tensor | None:
        skip = stream.pop()
        old = skip + x
        new = tap(old.clone())
        if new is None:
            return None
        # Where nothing was changed the branch stays bit for bit; elsewhere a stream set to 0 is exactly 0.
        return _differentiable(torch.where(new == old, x, new - skip), x + (new - old))

    block = model.layer(layer)
    return on_input(block, stream.append) + on_branch(model, layer, model.anatomy.attn_out, branch)


def _pos_embed(model: HookedModel, layer: int, tap: Tap) -> Handles:
    """Positions' embeddings, one copy a row (Hugging Face looks them up once for the whole batch)."""
    sizes: list[int] = []

    def each_row(x: Tensor) -> Tensor | None:
        return tap(x.repeat(sizes[-1] // x.shape[0], 1, 1))

    count = on_output(model.module(model.anatomy.embed), lambda x: sizes.append(x.shape[0]))
    return count + on_output(model.module(model.anatomy.position_embed), each_row)


def _heads_of(projection: str, kv: bool) -> Installer:
    """A projection's output, split into heads."""

    def install(model: HookedModel, layer: int, tap: Tap) -> Handles:
        anatomy, d_head = model.anatomy, model.d_head
        n_heads = model.n_kv_heads if kv else model.n_heads

        def split_heads(x: Tensor) -> Tensor | None:
            new = tap(x.reshape(*x.shape[:-1], n_heads, d_head))
            return None if new is None else new.reshape(x.shape)

        def split_fused(x: Tensor) -> Tensor | None:
            which = 0 if projection == "query" else 1
            parts = x.reshape(*x.shape[:-1], model.n_heads, 3, d_head)
            new = tap(parts[..., which, :])
            if new is None:
                return None
            return torch.stack([new if i == which else parts[..., i, :] for i in range(3)], -2).reshape(x.shape)

        attention = model.attentions[layer]
        if anatomy.fused:
            return on_output(attention.get_submodule(anatomy.fused), split_fused)
        return on_output(attention.get_submodule(getattr(anatomy, projection)), split_heads)

    return install


def _gated_z(model: HookedModel, layer: int, tap: Tap) -> Handles:
    """z behind a gate: what enters the output projection, split into heads."""

    def split_heads(x: Tensor) -> Tensor | None:
        new = tap(x.unflatten(-1, (model.n_heads, -1)))
        return None if new is None else new.flatten(-2)

    return on_input(model.attentions[layer].get_submodule(model.anatomy.output), split_heads)


def _normed(which: str) -> Installer:
    def install(model: HookedModel, layer: int, tap: Tap) -> Handles:
        def heads_first(x: Tensor) -> Tensor | None:
            new = tap(x.transpose(1, 2))
            return None if new is None else new.transpose(1, 2)

        module = model.attentions[layer].get_submodule(getattr(model.anatomy, which))
        return on_output(module, heads_first if model.anatomy.heads_first else tap)

    return install


def _scale(where: Callable[[HookedModel, int], nn.Module]) -> Installer:
    """The norm's denominator, ``[batch, pos, 1]``: the standard deviation (LayerNorm) or root mean square (RMSNorm)."""

    def install(model: HookedModel, layer: int, tap: Tap) -> Handles:
        module = where(model, layer)

        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            old = norm_scale(module, args[0])
            new = tap(old.clone())
            if new is None:
                return None
            shift = norm_bias(module, args[0])
            # Rows whose scale is only read stay bit for bit.
            changed = ((output - shift) * (old / new) + shift).to(output.dtype)
            return _differentiable(torch.where(new == old, output, changed), changed)

        return [module.register_forward_hook(hook)]

    return install


def _differentiable(value: Tensor, like: Tensor) -> Tensor:
    """`value` bit for bit, with the gradient of `like`, which equals it up to rounding."""
    return with_gradient_of(value, like) if like.requires_grad else value


_INSTALL: dict[str, Installer] = {
    "hook_embed": lambda m, _, tap: on_output(m.module(m.anatomy.embed), tap),
    "hook_pos_embed": _pos_embed,
    "hook_resid_pre": lambda m, layer, tap: on_input(m.layer(layer), tap),
    "ln1.hook_scale": _scale(lambda m, layer: m.part(layer, m.anatomy.norm1)),
    "attn.hook_q": _heads_of("query", kv=False),
    "attn.hook_k": _heads_of("key", kv=True),
    "attn.hook_q_normed": _normed("query_norm"),
    "attn.hook_k_normed": _normed("key_norm"),
    "attn.hook_z_gated": _gated_z,
    "hook_attn_out": lambda m, layer, tap: on_branch(m, layer, m.anatomy.attn_out, tap),
    "hook_resid_mid": _resid_mid,
    "ln2.hook_scale": _scale(lambda m, layer: m.part(layer, m.anatomy.norm2)),
    "hook_mlp_out": lambda m, layer, tap: on_branch(m, layer, m.anatomy.mlp_out, tap),
    "hook_resid_post": lambda m, layer, tap: on_output(m.layer(layer), tap),
    "ln_final.hook_scale": _scale(lambda m, _: m.module(m.anatomy.final_norm)),
}
