"""One attention function for every architecture: where q, k, v, the pattern and z are read and written.

Hugging Face looks its attention up by name in ``AttentionInterface`` and calls
``f(module, query, key, value, attention_mask, **kwargs) -> (z [batch, pos, head, d_head], weights | None)``.
We register one function per implementation that a model may have come with. A layer on which nothing is asked calls
that implementation itself, so its numbers stay Hugging Face's own; only a layer with an active hook on its pattern, or
one that resumes from a stored prefix, is computed here, in the arithmetic of Hugging Face's eager attention.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from workbench.errors import UnsupportedModel

Tap = Callable[[Tensor], Tensor | None]
PREFIX = "workbench|"


@dataclass(frozen=True)
class Prefix:
    """Keys and values of the positions before `start`, from the base run, for rows that resume at `start`.

    `rows` says which example each row resumes; without it the first axis is the rows' own, or 1 where all share it.
    `mask` is the base run's own mask for those examples, None where it had none. `own_keys` and `own_values` are the
    rows' own from `start` on where the layer is called for later positions only.
    """

    start: int
    keys: Float[Tensor, "example kv_head start d_head"]
    values: Float[Tensor, "example kv_head start d_head"]
    mask: Shaped[Tensor, "example_or_1 head_or_1 length length"] | None
    rows: Int[Tensor, "row"] | None = None
    own_keys: Float[Tensor, "row some_head earlier d_head"] | None = None
    own_values: Float[Tensor, "row other_head earlier d_head"] | None = None

    def of_rows(self, x: Shaped[Tensor, "example *rest"]) -> Shaped[Tensor, "row_or_1 *rest"]:
        """One entry a row, or one for all."""
        return x if self.rows is None or x.shape[0] == 1 else x[self.rows]

    def spans(self, batch: int) -> list[tuple[int, int, int]]:
        """(example, from, to): the rows that resume each example, as runs of consecutive rows."""
        if self.rows is None:
            return [(0, 0, batch)] if self.keys.shape[0] == 1 else [(i, i, i + 1) for i in range(batch)]
        examples, counts = torch.unique_consecutive(self.rows, return_counts=True)
        ends = counts.cumsum(0)
        return list(zip(examples.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True))


@dataclass
class AttentionInputs:
    """What one layer's attention saw in a run, kept so that the run can be resumed."""

    keys: Float[Tensor, "batch kv_head pos d_head"]
    values: Float[Tensor, "batch kv_head pos d_head"]
    mask: Shaped[Tensor, "batch_or_1 head_or_1 dest src"] | None
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class AttentionEdits:
    """What is asked of one attention layer during one run.

    Attributes:
        taps: functions on ``q``, ``k``, ``v``, ``z`` (``[batch, pos, head, d_head]``) and on ``scores`` and
            ``pattern`` (``[batch, head, dest, src]``); what they return replaces the activation.
        prefix: earlier positions' keys and values, when the layer resumes.
        expand: give every query head its own copy of k or v, so that an edit reaches one head only.
        keep: called with what the layer saw (keys, values, mask).
        frozen: z to return without computing attention at all.
    """

    taps: dict[str, Tap] = field(default_factory=dict)
    prefix: Prefix | None = None
    expand: frozenset[str] = frozenset()
    keep: Callable[[AttentionInputs], None] | None = None
    frozen: Float[Tensor, "batch pos head d_head"] | None = None


@dataclass
class _Layer:
    implementation: Callable[..., tuple[Tensor, Tensor | None]]
    run: AttentionEdits | None = None


_LAYERS: WeakKeyDictionary[nn.Module, _Layer] = WeakKeyDictionary()


def register(implementation: str) -> str:
    """Register our function beside `implementation` and give the name to put into ``config._attn_implementation``."""
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
    """Make `module`, one attention layer, known to `hooked_attention`."""
    _LAYERS[module] = _Layer(implementation)


def set_run(module: nn.Module, run: AttentionEdits | None) -> None:
    """Ask `run` of one attention layer, or nothing (None)."""
    _LAYERS[module].run = run


def hooked_attention(
    module: nn.Module,
    query: Float[Tensor, "batch head dest d_head"],
    key: Float[Tensor, "batch kv_head src d_head"],
    value: Float[Tensor, "batch kv_head src d_head"],
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "batch dest head d_head"], Tensor | None]:
    """The function Hugging Face calls: edits and records around the implementation the model came with."""
    layer = _LAYERS[module]
    run = layer.run
    if run is None:
        return layer.implementation(module, query, key, value, attention_mask, **kwargs)
    n_heads = query.shape[1]
    query = _tap_heads(run, "q", query)
    key = _tap_heads(run, "k", _expanded(key, n_heads, "k" in run.expand))
    value = _tap_heads(run, "v", _expanded(value, n_heads, "v" in run.expand))
    if run.keep is not None:
        run.keep(AttentionInputs(key, value, attention_mask, kwargs))
    if run.prefix is not None and run.prefix.own_keys is not None and run.prefix.own_values is not None:
        key, value = torch.cat([run.prefix.own_keys, key], 2), torch.cat([run.prefix.own_values, value], 2)
    if run.frozen is not None:
        return _tap(run, "z", run.frozen), None
    if run.prefix is not None and _is_plain(run, query, key, value, kwargs):
        z = _over_prefixes(query, key, value, run.prefix, kwargs["scaling"], is_causal(module, kwargs))
        return _tap(run, "z", z), None
    explicit = run.prefix is not None or bool(run.expand) or not run.taps.keys().isdisjoint({"scores", "pattern"})
    if explicit:
        z = reference_attention(module, run, query, key, value, attention_mask, **kwargs)
        weights = None
    else:
        z, weights = layer.implementation(module, query, key, value, attention_mask, **kwargs)
    return _tap(run, "z", z), weights


def is_causal(module: nn.Module, kwargs: dict[str, Any]) -> bool:
    """Whether a missing mask means causal: the keyword if given, else the module's word (the mask cannot tell)."""
    given = kwargs.get("is_causal")
    return bool(given if given is not None else getattr(module, "is_causal", True))


def reference_attention(
    module: nn.Module,
    run: AttentionEdits,
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
    """Attention as Hugging Face's eager functions compute it, over a prefix (shared by all rows or one a row) and
    the layer's own keys: ``pattern = softmax(cap · tanh(q kᵀ · scale / cap) + mask)``, ``z = pattern v``, with the
    attention sink as one more column of the softmax that no value answers (gpt-oss)."""
    prefix = run.prefix
    start = prefix.start if prefix else 0
    own, dest = key.shape[2], query.shape[2]
    if prefix is not None:
        mask = None if prefix.mask is None else prefix.of_rows(prefix.mask)[:, :, -dest:]
    may_see_nothing = mask is not None and mask.dtype == torch.bool
    if mask is None:
        mask = visible(dest, start + own, is_causal(module, kwargs), sliding_window, query.device)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = _products(query * scale, key.mT, None if prefix is None else prefix.of_rows(prefix.keys).mT)
    bias = None if position_bias is None else position_bias[:, :, -dest:]
    scores = _tap(run, "scores", scores_of(scores, mask, softcap, bias))
    pattern = softmax(scores, s_aux, query.dtype)
    if may_see_nothing:  # a destination in left padding attends to nothing
        pattern = torch.nan_to_num(pattern)
    pattern = _tap(run, "pattern", pattern)
    z = grouped(pattern[..., start:], value)
    if prefix is not None and start:
        z = z + _shared(pattern[..., :start], prefix.of_rows(prefix.values))
    return z.transpose(1, 2).contiguous()


def scores_of(
    products: Float[Tensor, "batch head dest src"],
    mask: Shaped[Tensor, "batch_or_1 head_or_1 dest src"] | None,
    softcap: float | None = None,
    bias: Tensor | None = None,
) -> Float[Tensor, "batch head dest src"]:
    """``cap · tanh(products / cap) + bias + mask``; a boolean mask says what is seen."""
    scores = products if softcap is None else softcap * torch.tanh(products / softcap)
    if bias is not None:
        scores = scores + bias
    if mask is None:
        return scores
    return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask


def softmax(
    scores: Float[Tensor, "batch head dest src"], sinks: Tensor | None, dtype: torch.dtype
) -> Float[Tensor, "batch head dest src"]:
    """Rows of attention weights; a head's sink takes its share of a row and gets no value."""
    if sinks is not None:
        sink = sinks.reshape(1, -1, 1, 1).expand(scores.shape[0], -1, scores.shape[2], 1).to(scores.dtype)
        scores = torch.cat([scores, sink], -1)
    pattern = torch.softmax(scores, -1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(dtype)
    return pattern if sinks is None else pattern[..., :-1]


def _is_plain(run: AttentionEdits, query: Tensor, key: Tensor, value: Tensor, kwargs: dict[str, Any]) -> bool:
    """Whether rows ask for nothing but softmax attention over prefixes that they see whole."""
    prefix, special = run.prefix, ("softcap", "s_aux", "sliding_window", "position_bias")
    return (
        prefix is not None
        and prefix.mask is None
        and prefix.start > 0
        and key.shape == value.shape
        and key.shape[1] == prefix.keys.shape[1]
        and (prefix.rows is not None or prefix.keys.shape[0] == 1)
        and kwargs.get("scaling") is not None
        and not any(kwargs.get(name) is not None for name in special)
        and run.taps.keys().isdisjoint({"scores", "pattern"})
    )


def _over_prefixes(
    query: Float[Tensor, "batch head dest d_head"],
    key: Float[Tensor, "batch kv_head own d_head"],
    value: Float[Tensor, "batch kv_head own d_head"],
    prefix: Prefix,
    scale: float,
    causal: bool,
) -> Float[Tensor, "batch dest head d_head"]:
    """`reference_attention` for the common case, laid out so that an example's prefix is one large product for each KV
    head and nothing is copied twice: rows are ``[kv_head, batch · dest · group, ...]`` throughout."""
    batch, heads, dest, d_head = query.shape
    kv, own, start = key.shape[1], key.shape[2], prefix.start
    group = heads // kv
    q = query.transpose(1, 2).reshape(batch, dest, kv, group, d_head).permute(2, 0, 1, 3, 4).reshape(kv, -1, d_head)
    k = (key * scale).transpose(0, 1).reshape(kv * batch, own, d_head)
    v = value.transpose(0, 1).reshape(kv * batch, own, d_head)
    spans = [(i, slice(a * dest * group, b * dest * group)) for i, a, b in prefix.spans(batch)]
    scores = q.new_empty(kv, batch * dest * group, start + own)
    for i, rows in spans:
        scores[:, rows, :start] = q[:, rows] @ (prefix.keys[i] * scale).mT
    among = (q.reshape(kv * batch, dest * group, d_head) @ k.mT).view(kv, batch, dest, group, own)
    if causal and dest > 1:
        later = torch.ones(dest, own, dtype=torch.bool, device=query.device).triu(1 + own - dest)
        among = among.masked_fill_(later[:, None], -torch.inf)
    scores[..., start:] = among.view(kv, -1, own)
    pattern = torch.softmax(scores, -1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(query.dtype)
    z = q.new_empty(q.shape)
    for i, rows in spans:
        z[:, rows] = pattern[:, rows, :start] @ prefix.values[i]
    z.view(kv * batch, dest * group, d_head).baddbmm_(pattern[..., start:].reshape(kv * batch, dest * group, own), v)
    return z.view(kv, batch, dest, group, d_head).permute(1, 2, 0, 3, 4).reshape(batch, dest, heads, d_head)


def visible(dest: int, src: int, causal: bool, window: int | None, device: torch.device) -> Tensor | None:
    """Which source each of the last `dest` positions may see, ``[1, 1, dest, src]``; None when it sees all."""
    if not causal or (dest == 1 and (window is None or window >= src)):
        return None
    to = torch.arange(src - dest, src, device=device)[:, None]
    source = torch.arange(src, device=device)[None, :]
    seen = source <= to
    if window is not None:
        seen &= source > to - window
    return seen[None, None]


def _products(query: Tensor, keys: Tensor, prefix: Tensor | None) -> Float[Tensor, "batch head dest src"]:
    own = grouped(query, keys)
    if prefix is None or prefix.shape[-1] == 0:
        return own
    return torch.cat([_shared(query, prefix), own], -1)


def grouped(
    a: Float[Tensor, "batch head dest m"], b: Float[Tensor, "batch kv_head m n"]
) -> Float[Tensor, "batch head dest n"]:
    """``a @ b`` with each of b's heads serving a group of a's heads, without repeating b."""
    batch, heads, dest, m = a.shape
    kv = b.shape[1]
    return (a.reshape(batch, kv, heads // kv * dest, m) @ b).reshape(batch, heads, dest, -1)


def _shared(
    a: Float[Tensor, "batch head dest m"], b: Float[Tensor, "row_or_1 kv_head m n"]
) -> Float[Tensor, "batch head dest n"]:
    """`grouped` where b may be one example's, shared by the whole batch: one large product a KV head."""
    batch, heads, dest, m = a.shape
    kv = b.shape[1]
    if kv != heads and heads % kv:
        raise ValueError(f"{heads} query heads cannot share {kv} key/value heads")
    if b.shape[0] == batch:
        return grouped(a, b)
    group = heads // kv
    rows = a.reshape(batch, kv, group * dest, m).transpose(0, 1).reshape(kv, batch * group * dest, m)
    return (rows @ b[0]).reshape(kv, batch, group * dest, -1).transpose(0, 1).reshape(batch, heads, dest, -1)


def _expanded(x: Tensor, n_heads: int, wanted: bool) -> Tensor:
    return x.repeat_interleave(n_heads // x.shape[1], dim=1) if wanted and x.shape[1] != n_heads else x


def _tap(run: AttentionEdits, site: str, x: Tensor) -> Tensor:
    tap = run.taps.get(site)
    new = None if tap is None else tap(x)
    return x if new is None else new


def _tap_heads(run: AttentionEdits, site: str, x: Tensor) -> Tensor:
    """`_tap` in TransformerLens's layout, ``[batch, pos, head, d_head]``."""
    tap = run.taps.get(site)
    new = None if tap is None else tap(x.transpose(1, 2))
    return x if new is None else new.transpose(1, 2)
