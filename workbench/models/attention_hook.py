"""One attention function for every architecture: where q, k, v, the pattern and z are read and written.

Hugging Face looks its attention up by name in ``AttentionInterface`` and calls
``f(module, query, key, value, attention_mask, **kwargs) -> (z [batch, pos, head, d_head], weights | None)``.
We register one function per implementation that a model may have come with. A layer without edits calls that
implementation itself, so its numbers stay Hugging Face's own; only a layer with an active hook on its pattern, or one
that resumes from a prefix, is computed by `reference_attention` or `prefix_attention`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from workbench.errors import HookError, UnsupportedModel
from workbench.models import prefix_attention, reference_attention
from workbench.models.prefix_attention import Prefix

Tap = Callable[[Tensor], Tensor | None]
PREFIX = "workbench|"


@dataclass
class AttentionInputs:
    """What one layer's attention was called with in a run, to resume it."""

    keys: Float[Tensor, "batch kv_head pos d_head"]
    values: Float[Tensor, "batch kv_head pos d_head"]
    mask: Shaped[Tensor, "batch_or_1 head_or_1 dest src"] | None
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class AttentionEdits:
    """What one attention layer does differently during one run.

    Attributes:
        taps: functions on ``q``, ``k``, ``v``, ``z`` (``[batch, pos, head, d_head]``) and on ``scores`` and
            ``pattern`` (``[batch, head, dest, src]``); what they return replaces the activation.
        prefix: earlier positions' keys and values, when the layer resumes.
        expand: give every query head its own copy of k or v, so that an edit reaches one head only.
        on_inputs: called with the layer's keys, values and mask.
        frozen: z to return without computing attention at all.
    """

    taps: dict[str, Tap] = field(default_factory=dict)
    prefix: Prefix | None = None
    expand: frozenset[str] = frozenset()
    on_inputs: Callable[[AttentionInputs], None] | None = None
    frozen: Float[Tensor, "batch pos head d_head"] | None = None


@dataclass
class _Layer:
    implementation: Callable[..., tuple[Tensor, Tensor | None]]
    edits: AttentionEdits | None = None


_LAYERS: WeakKeyDictionary[nn.Module, _Layer] = WeakKeyDictionary()


def register(implementation: str) -> str:
    """Register our function beside `implementation` and return the name to put into ``config._attn_implementation``."""
    name = PREFIX + implementation
    if name not in ALL_ATTENTION_FUNCTIONS:
        AttentionInterface.register(name, hooked_attention)
        masks = ALL_MASK_ATTENTION_FUNCTIONS
        AttentionMaskInterface.register(name, masks[implementation if implementation in masks else "eager"])
    return name


def implementation_of(module: nn.Module, name: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The attention function the model came with; the family's own one for ``eager``."""
    if name in ALL_ATTENTION_FUNCTIONS:
        return ALL_ATTENTION_FUNCTIONS[name]
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if eager is None:
        raise UnsupportedModel(
            f"{type(module).__name__} computes its attention itself instead of calling Hugging Face's "
            "AttentionInterface, so its heads cannot be reached."
        )
    return eager


def attach(module: nn.Module, implementation: Callable[..., tuple[Tensor, Tensor | None]]) -> None:
    """Register `module`, one attention layer, with `hooked_attention`."""
    _LAYERS[module] = _Layer(implementation)


def set_edits(module: nn.Module, edits: AttentionEdits | None) -> None:
    """What one attention layer does from now on; None for what its model does."""
    _LAYERS[module].edits = edits


def hooked_attention(
    module: nn.Module,
    query: Float[Tensor, "batch head dest d_head"],
    key: Float[Tensor, "batch kv_head src d_head"],
    value: Float[Tensor, "batch kv_head src d_head"],
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "batch dest head d_head"], Tensor | None]:
    """The function Hugging Face calls: edits and records around the implementation the model came with."""
    layer = _LAYERS.get(module)
    if layer is None:
        raise HookError(f"{type(module).__name__} calls attention outside the layers that the model's anatomy names.")
    edits = layer.edits
    if edits is None:
        return layer.implementation(module, query, key, value, attention_mask, **kwargs)
    n_heads, prefix = query.shape[1], edits.prefix
    query = _tap_heads(edits, "q", query)
    key = _tap_heads(edits, "k", _expanded(key, n_heads, "k" in edits.expand))
    value = _tap_heads(edits, "v", _expanded(value, n_heads, "v" in edits.expand))
    if edits.on_inputs is not None:
        edits.on_inputs(AttentionInputs(key, value, attention_mask, kwargs))
    if prefix is not None and prefix.own_keys is not None and prefix.own_values is not None:
        key, value = torch.cat([prefix.own_keys, key], 2), torch.cat([prefix.own_values, value], 2)
    has_pattern_edit = not edits.taps.keys().isdisjoint({"scores", "pattern"})
    weights = None
    if edits.frozen is not None:
        z = edits.frozen
    elif prefix is not None and not has_pattern_edit and prefix_attention.is_plain(prefix, query, key, value, kwargs):
        z = prefix_attention.attention(query, key, value, prefix, kwargs["scaling"], is_causal(module, kwargs))
    elif prefix is not None or edits.expand or has_pattern_edit:
        z = _reference(module, edits, query, key, value, attention_mask, **kwargs)
    else:
        z, weights = layer.implementation(module, query, key, value, attention_mask, **kwargs)
    return _tap(edits, "z", z), weights


def is_causal(module: nn.Module, kwargs: dict[str, Any]) -> bool:
    """Whether a missing mask means causal: the keyword where there is one, else the module's attribute (the mask does
    not say)."""
    keyword = kwargs.get("is_causal")
    return bool(keyword if keyword is not None else getattr(module, "is_causal", True))


def _reference(
    module: nn.Module,
    edits: AttentionEdits,
    query: Float[Tensor, "batch head dest d_head"],
    key: Float[Tensor, "batch some_head own d_head"],
    value: Float[Tensor, "batch other_head own d_head"],
    mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    sliding_window: int | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> Float[Tensor, "batch dest head d_head"]:
    """The reference form over the layer's own keys and, where the layer resumes, the prefix before them."""
    prefix, dest, src = edits.prefix, query.shape[2], key.shape[2]
    sources = [(key, value)]
    if prefix is not None:
        mask = _resumed_mask(module, prefix, mask, dest)
        src += prefix.start
        if prefix.start:
            sources.insert(0, (prefix.of_rows(prefix.keys), prefix.of_rows(prefix.values)))
    padded = mask is not None and mask.dtype == torch.bool
    if mask is None:
        mask = reference_attention.visible(dest, src, is_causal(module, kwargs), sliding_window, query.device)
    return reference_attention.attention(
        query,
        sources,
        mask,
        query.shape[-1] ** -0.5 if scaling is None else scaling,
        softcap=softcap,
        bias=None if position_bias is None else position_bias[:, :, -dest:],
        sinks=s_aux,
        padded=padded,
        edit_scores=lambda scores: _tap(edits, "scores", scores),
        edit_pattern=lambda pattern: _tap(edits, "pattern", pattern),
    )


def _resumed_mask(module: nn.Module, prefix: Prefix, own: Tensor | None, dest: int) -> Tensor | None:
    """The mask of a layer that resumes: the base run's, which has all positions. A module that makes its mask itself
    makes it for the positions that it is given; of all positions that is the mask, of some it has to be the base run's.

    Raises:
        HookError: the mask follows from the residual stream, and cannot be had for the positions that are left out.
    """
    base = None if prefix.mask is None else prefix.of_rows(prefix.mask)[:, :, -dest:]
    if own is None or base is None:
        return base
    if prefix.start == 0:
        return own
    if own.shape[-1] == base.shape[-1] - prefix.start and bool((own == base[..., prefix.start :]).all()):
        return base
    raise HookError(f"{type(module).__name__} makes its mask from its input, so that its layer cannot be resumed.")


def _expanded(x: Tensor, n_heads: int, expand: bool) -> Tensor:
    return x.repeat_interleave(n_heads // x.shape[1], dim=1) if expand and x.shape[1] != n_heads else x


def _tap(edits: AttentionEdits, site: str, x: Tensor) -> Tensor:
    tap = edits.taps.get(site)
    new = None if tap is None else tap(x)
    return x if new is None else new


def _tap_heads(edits: AttentionEdits, site: str, x: Tensor) -> Tensor:
    """`_tap` in TransformerLens's layout, ``[batch, pos, head, d_head]``."""
    tap = edits.taps.get(site)
    new = None if tap is None else tap(x.transpose(1, 2))
    return x if new is None else new.transpose(1, 2)
