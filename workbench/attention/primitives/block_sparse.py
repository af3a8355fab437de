"""z of softmax attention over selected blocks of keys, without a mask ``[dest, src]``.

PyTorch's CPU kernel under a boolean mask of each head's own is six times slower at 8,192 positions than without one.
These loops over (head, block) call it on the selected keys alone, and merge parts by their log-sum-exp.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.primitives.blocks import Blocks
from workbench.attention.primitives.merge import attend, merge

#: Below as many positions a masked kernel is as fast.
SHORTEST = 512


def usable(q: Tensor, k: Tensor, v: Tensor, call: Call, blocks: Blocks) -> bool:
    """Whether these loops serve a call, and pay: a whole prompt on the CPU without a mask of the model's, no gradients,
    and blocks in order where it is causal."""
    plain = call.visible is None and call.padding is None and q.shape[2] == k.shape[2] >= SHORTEST
    gradients = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    return plain and q.device.type == "cpu" and not gradients and (blocks.in_order or not call.causal)


@torch.no_grad()
def by_block(
    q: Float[Tensor, "batch head pos d_head"],
    k: Float[Tensor, "batch head pos d_head"],
    v: Float[Tensor, "batch head pos d_value"],
    selected: Bool[Tensor, "batch_or_1 head_or_1 block block"],
    blocks: Blocks,
    call: Call,
) -> Float[Tensor, "batch head pos d_value"]:
    """Every query of block a sees the keys of the blocks b with ``selected[a, b]``; where the call is causal, of those
    before its own, and of its own, which is always seen, what is not later. A block that selects nothing has z = 0.
    """
    order, offsets = None if blocks.in_order else blocks.order, blocks.offsets
    if order is not None:
        q, k, v = (x[:, :, order] for x in (q, k, v))
    z = torch.zeros_like(v)
    gathered = [x.new_empty(1, 1, *x.shape[2:]) for x in (k, v)]
    for row, head in torch.cartesian_prod(*(torch.arange(n) for n in v.shape[:2])).tolist():
        columns = _of_head(selected, row, head).repeat_interleave(blocks.sizes, 1)
        queries, keys, values = (x[row : row + 1, head : head + 1].contiguous() for x in (q, k, v))
        for block, (start, stop) in enumerate(pairwise(offsets)):
            index = columns[block, : start if call.causal else None].nonzero().flatten()
            rows, n, part = queries[:, :, start:stop], len(index), None
            if call.causal:
                part = attend(rows, keys[:, :, start:stop], values[:, :, start:stop], call.scale, causal=True)
            if n:
                for x, buffer in zip((keys, values), gathered, strict=True):
                    torch.index_select(x, 2, index, out=buffer[:, :, :n])
                others = attend(rows, gathered[0][:, :, :n], gathered[1][:, :, :n], call.scale)
                part = others if part is None else merge(part, others)
            if part is not None:
                z[row, head, start:stop] = part[0]
    return z if order is None else torch.empty_like(z).index_copy_(2, order, z)


@torch.no_grad()
def by_query(
    q: Float[Tensor, "batch head pos d_head"],
    k: Float[Tensor, "batch head pos d_head"],
    v: Float[Tensor, "batch head pos d_value"],
    selected: Bool[Tensor, "batch_or_1 head_or_1 pos block"],
    blocks: Blocks,
    call: Call,
) -> Float[Tensor, "batch head pos d_value"]:
    """Every query i sees the keys of the blocks b with ``selected[i, b]``; where the call is causal, of those before
    its own, and of its own, which is always seen, what is not later. A query that selects nothing has z = 0.

    For each block of keys its queries are gathered, and what they get from it is merged with what they have.
    """
    offsets = blocks.offsets
    if not blocks.in_order:
        k, v = (x[:, :, blocks.order] for x in (k, v))
    precise = torch.promote_types(v.dtype, torch.float32)
    z = torch.zeros(v.shape, dtype=precise, device=v.device)
    for row, head in torch.cartesian_prod(*(torch.arange(n) for n in v.shape[:2])).tolist():
        table = _of_head(selected, row, head).T.contiguous()
        queries, keys, values = (x[row : row + 1, head : head + 1].contiguous() for x in (q, k, v))
        so_far = z[row, head], torch.full(v.shape[2:3], -torch.inf, dtype=precise, device=v.device)
        for block, (start, stop) in enumerate(pairwise(offsets)):
            at = keys[:, :, start:stop], values[:, :, start:stop]
            if call.causal:
                own = attend(queries[:, :, start:stop], *at, call.scale, causal=True)
                _add(own, so_far, torch.arange(start, stop, device=v.device))
            first = stop if call.causal else 0
            index = table[block, first:].nonzero().flatten() + first
            if len(index):
                _add(attend(queries.index_select(2, index), *at, call.scale), so_far, index)
    return z.to(v.dtype)


def _of_head(selected: Tensor, row: int, head: int) -> Tensor:
    return selected[min(row, selected.shape[0] - 1), min(head, selected.shape[1] - 1)]


def _add(part: tuple[Tensor, Tensor], so_far: tuple[Tensor, Tensor], index: Tensor) -> None:
    """Merges what some queries get from a block with what they have."""
    before = so_far[0].index_select(0, index), so_far[1].index_select(0, index)
    merged = merge(before, (part[0][0, 0], part[1][0, 0].to(before[1].dtype)))
    for total, new in zip(so_far, merged, strict=True):
        total.index_copy_(0, index, new)
