"""Attention as it is defined, in the arithmetic of Hugging Face's eager functions: slow, plain, and what the fast forms
are tested against.

``pattern = softmax(cap · tanh(scale · q kᵀ / cap) + bias + mask)``, ``z = pattern v``
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor

#: Keys and values of consecutive source positions, ``[batch or 1, kv_head, src, d_head]``.
KeysValues = tuple[Float[Tensor, "_ _ _ _"], Float[Tensor, "_ _ _ _"]]


#: What a mask of floats adds to hide a position lies below this; anything between it and 0 is a bias.
HIDDEN = -1e4


def unchanged(x: Tensor) -> Tensor:
    """No edit."""
    return x


def attention(
    query: Float[Tensor, "batch head dest d_head"],
    sources: Sequence[KeysValues],
    mask: Shaped[Tensor, "batch_or_1 head_or_1 dest src"] | None,
    scale: float,
    **options: Any,
) -> Float[Tensor, "batch dest head d_value"]:
    """The attention function: ``z = pattern v``; arguments as those of `pattern`."""
    return mixed(pattern(query, sources, mask, scale, **options), sources)


def pattern(
    query: Float[Tensor, "batch head dest d_head"],
    sources: Sequence[KeysValues],
    mask: Shaped[Tensor, "batch_or_1 head_or_1 dest src"] | None,
    scale: float,
    *,
    softcap: float | None = None,
    bias: Tensor | None = None,
    sinks: Float[Tensor, "head"] | None = None,
    padded: bool = False,
    edit_scores: Callable[[Tensor], Tensor] = unchanged,
) -> Float[Tensor, "batch head dest src"]:
    """The attention pattern, with the scores open to edits.

    Args:
        sources: keys and values along the source axis, in one or more parts; a part may be one example's that all rows
            share. Each of their heads serves a group of the query's heads.
        mask: what is added to the scores, or which sources are visible; None where all are.
        sinks: one more logit a row, which takes its share of the softmax and has no value (gpt-oss).
        padded: whether a destination may see nothing at all (left padding): its row is then 0.
    """
    query = query * scale
    products = torch.cat([grouped_product(query, keys.mT) for keys, _ in sources], -1)
    scores = edit_scores(masked_scores(products, mask, softcap, bias))
    weights = softmax(scores, sinks, query.dtype)
    return torch.nan_to_num(weights) if padded else weights


def mixed(
    pattern: Float[Tensor, "batch head dest src"], sources: Sequence[KeysValues]
) -> Float[Tensor, "batch dest head d_value"]:
    """``z = pattern v``, positions first."""
    parts = pattern.split([values.shape[2] for _, values in sources], -1)
    z, *others = [grouped_product(part, values) for part, (_, values) in zip(parts, sources, strict=True)]
    return sum(others, z).transpose(1, 2).contiguous()


def masked_scores(
    products: Float[Tensor, "batch head dest src"],
    mask: Shaped[Tensor, "batch_or_1 head_or_1 dest src"] | None,
    softcap: float | None = None,
    bias: Tensor | None = None,
) -> Float[Tensor, "batch head dest src"]:
    """``cap · tanh(products / cap) + bias + mask``; a boolean mask marks what is visible."""
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


def visible(dest: int, src: int, causal: bool, window: int | None, device: torch.device) -> Tensor | None:
    """Which source each of the last `dest` positions may see, ``[1, 1, dest, src]``; None when it sees all."""
    if not causal or (dest == 1 and (window is None or window >= src)):
        return None
    destination = torch.arange(src - dest, src, device=device)[:, None]
    source = torch.arange(src, device=device)[None, :]
    mask = source <= destination
    if window is not None:
        mask &= source > destination - window
    return mask[None, None]


def grouped_product(
    a: Float[Tensor, "batch head dest m"], b: Float[Tensor, "batch_or_1 kv_head m n"]
) -> Float[Tensor, "batch head dest n"]:
    """``a @ b`` with each of b's heads serving a group of a's heads, without repeating b. Where b is one example's that
    the whole batch shares, it is one large product for each of b's heads."""
    (batch, heads), kv = a.shape[:2], b.shape[1]
    if heads % kv:
        raise ValueError(f"{heads} query heads cannot share {kv} key/value heads: expected a multiple")
    if b.shape[0] == batch:
        product = rearrange(a, "batch (kv group) dest m -> batch kv (group dest) m", kv=kv) @ b
        return rearrange(product, "batch kv (group dest) n -> batch (kv group) dest n", group=heads // kv)
    rows = rearrange(a, "batch (kv group) dest m -> kv (batch group dest) m", kv=kv)
    return rearrange(rows @ b[0], "kv (batch group dest) n -> batch (kv group) dest n", batch=batch, group=heads // kv)
