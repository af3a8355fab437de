"""One attention function for every architecture: where q, k, v, the pattern and z are read and written.

Hugging Face looks its attention up by name in ``AttentionInterface`` and calls
``f(module, query, key, value, attention_mask, **kwargs) -> (z [batch, pos, head, d_head], weights | None)``.
While a model runs with hooks, that lookup finds `hooked_attention` around the implementation that it names; the name in
the configuration stays, since model files branch on it. A layer without edits calls the implementation itself, so its
numbers stay Hugging Face's own; only a layer with an active hook on its pattern, or one that resumes from a prefix, is
computed by `reference_attention` or `prefix_attention`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from workbench.errors import HookError, UnsupportedModel
from workbench.models import prefix_attention, reference_attention
from workbench.models.prefix_attention import Prefix

Tap = Callable[[Tensor], Tensor | None]
#: Hugging Face's signature: ``f(module, query, key, value, attention_mask, **kwargs) -> (z, weights | None)``.
Implementation = Callable[..., tuple[Tensor, Tensor | None]]


@dataclass
class AttentionInputs:
    """What one layer's attention was called with in a run, to resume it."""

    keys: Float[Tensor, "batch kv_head pos d_head"]
    values: Float[Tensor, "batch kv_head pos d_value"]
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
    frozen: Float[Tensor, "batch pos head d_value"] | None = None


#: Attention layers of hooked models → what they do differently now.
_LAYERS: WeakKeyDictionary[nn.Module, AttentionEdits | None] = WeakKeyDictionary()
_LOOKUP = threading.Lock()


@dataclass
class _Answered:
    """An implementation whose lookup is answered by `hooked_attention`: for how many runs, what it is, and the entries
    in the tables before."""

    runs: int
    implementation: Implementation | None
    entries: list[Any]


_ANSWERED: dict[str | None, _Answered] = {}


@contextmanager
def answered(names: Collection[str | None]) -> Iterator[None]:
    """While it lasts, whoever looks up one of these implementations in transformers finds `hooked_attention` around it.
    Modules that are no layers of a hooked model get the implementation itself."""
    functions = _tables()
    with _LOOKUP:
        for name in names:
            if name not in _ANSWERED:
                _ANSWERED[name] = _Answered(0, ALL_ATTENTION_FUNCTIONS.get(name), [f.get(name) for f in functions])
                for table in functions:
                    table[name] = _around(name)
            _ANSWERED[name].runs += 1
    try:
        yield
    finally:
        with _LOOKUP:
            for name in names:
                _ANSWERED[name].runs -= 1
                if not _ANSWERED[name].runs:
                    for table, before in zip(functions, _ANSWERED.pop(name).entries, strict=True):
                        if before is None:
                            del table[name]
                        else:
                            table[name] = before


def _tables() -> tuple[dict[Any, Any], dict[Any, Any]]:
    """What transformers looks implementations up in: what every model file sees, and what goes before it in the
    instance that all but a few of them share."""
    shared: Any = ALL_ATTENTION_FUNCTIONS
    return type(shared)._global_mapping, shared._local_mapping


def _around(name: str | None) -> Implementation:
    def attention(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        implementation = implementation_of(module, name)
        if module not in _LAYERS:
            return implementation(module, *args, **kwargs)
        return hooked_attention(implementation, module, *args, **kwargs)

    return attention


def implementation_of(module: nn.Module, name: str | None) -> Implementation:
    """The attention function of that name; the family's own one for ``eager``.

    Raises:
        UnsupportedModel: the module's file has none.
    """
    registered = _ANSWERED[name].implementation if name in _ANSWERED else ALL_ATTENTION_FUNCTIONS.get(name)
    implementation = registered or getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if implementation is None:
        raise UnsupportedModel(
            f"{type(module).__name__} computes its attention itself instead of calling Hugging Face's "
            "AttentionInterface, so its heads cannot be reached."
        )
    return implementation


def implementations(modules: Iterable[nn.Module], names: Collection[str | None]) -> list[Implementation]:
    """The functions that these layers find under these names, each once."""
    return list(dict.fromkeys(implementation_of(module, name) for module in modules for name in sorted(names, key=str)))


def set_edits(module: nn.Module, edits: AttentionEdits | None) -> None:
    """What one attention layer does from now on; None for what its model does."""
    _LAYERS[module] = edits


def hooked_attention(
    implementation: Implementation,
    module: nn.Module,
    query: Float[Tensor, "batch head dest d_head"],
    key: Float[Tensor, "batch kv_head src d_head"],
    value: Float[Tensor, "batch kv_head src d_value"],
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "batch dest head d_value"], Tensor | None]:
    """The function Hugging Face calls: edits and records around the implementation the model came with."""
    edits = _LAYERS[module]
    if edits is None:
        return implementation(module, query, key, value, attention_mask, **kwargs)
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
        z, weights = implementation(module, query, key, value, attention_mask, **kwargs)
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
    value: Float[Tensor, "batch other_head own d_value"],
    mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    sliding_window: int | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> Float[Tensor, "batch dest head d_value"]:
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
