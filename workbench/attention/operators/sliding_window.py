"""Sliding window: each position sees the `window` last positions, itself included, and the first `sinks` of all.

``A = softmax(q kᵀ / √d)`` over ``{j ≤ i : j > i − window or j < sinks}``; where attention is not causal, over
``{j : |i − j| < window or j < sinks}``.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.attention.call import Call
from workbench.attention.operator import Operator
from workbench.attention.primitives import softmax_forms
from workbench.attention.primitives.visible import positions
from workbench.attention.settings import Setting


def mask(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[1, 1, dest, src]``."""
    destination, source = positions(q.shape[2], k.shape[2], q.device)
    near = (destination - source).abs() < call["window"]
    return (near | (source < call["sinks"]))[None, None]


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """Blocks of `window` queries see two blocks of keys, and the sinks: ``O(window)`` a position."""
    window, sinks, length = call["window"], call["sinks"], q.shape[2]
    plain = call.causal and call.visible is None and call.padding is None
    if not plain or length != k.shape[2] or length <= 2 * window + sinks:
        return softmax_forms.masked(q, k, v, mask(q, k, call), call)
    blocks = -(-length // window)
    cut = partial(_blocks, window=window, blocks=blocks)
    queries, keys, values = cut(q), _with_previous(cut(k)), _with_previous(cut(v))
    first = [x[:, :, None, :sinks].expand(-1, -1, blocks, -1, -1) for x in (k, v)]
    row = torch.arange(window, device=q.device)[:, None] + window
    column = torch.arange(2 * window, device=q.device)
    near = ((column <= row) & (column > row - window)).expand(blocks, -1, -1).clone()
    near[0, :, :window] = False
    destination = torch.arange(blocks * window, device=q.device).view(blocks, window, 1)
    start = (torch.arange(blocks, device=q.device)[:, None, None] - 1) * window
    near &= start + column >= sinks  # those are seen once
    seen = torch.cat([torch.arange(sinks, device=q.device) <= destination, near], -1)
    z = F.scaled_dot_product_attention(
        queries, torch.cat([first[0], keys], 3), torch.cat([first[1], values], 3), attn_mask=seen, scale=call.scale
    )
    return z.flatten(2, 3)[:, :, :length]


def _blocks(x: Tensor, window: int, blocks: int) -> Tensor:
    """``[batch, head, block, window, d]``, the last one filled up."""
    return F.pad(x, (0, 0, 0, blocks * window - x.shape[2])).unflatten(2, (blocks, window))


def _with_previous(x: Tensor) -> Tensor:
    return torch.cat([F.pad(x, (0, 0, 0, 0, 1, 0))[:, :, :-1], x], 3)


operator = Operator(
    name="sliding-window",
    version=1,
    source="Beltagy et al. 2020, arXiv 2004.05150; sinks: Xiao et al. 2023, arXiv 2309.17453",
    status="as published",
    settings={
        "window": Setting(64, "whole number", "positions that each sees, itself included", at_least=1),
        "sinks": Setting(0, "whole number", "first positions that every one sees", at_least=0),
    },
    shift_invariant=lambda settings: settings["sinks"] == 0,
    mask=mask,
    efficient=efficient,
    check_length=lambda settings: settings["window"] + settings["sinks"] + 8,
)
