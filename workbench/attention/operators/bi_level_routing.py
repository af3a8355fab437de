"""Bi-level routing attention (BiFormer): each region of a grid sees the regions most like it, the same for all heads.

The grid is cut into `regions` × `regions`; with q_r and k_r the means of a region over its positions, all heads'
channels together, ``a = q_r k_rᵀ`` says which `top_k` regions r' each region r sees. ``A = softmax(scale · q kᵀ)``
over their keys. A region need not see itself. Where the model is causal it sees itself besides, and none that begins
after it has ended, and a position sees of them what is not later; which regions are seen still depends on later
positions. A sequence is a grid of one axis.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.arguments import refusal
from workbench.attention.call import Call
from workbench.attention.operator import Operator
from workbench.attention.primitives import block_sparse, softmax_forms
from workbench.attention.primitives.blocks import Blocks, require_whole, top
from workbench.attention.primitives.padding import compacted
from workbench.attention.settings import Setting


def regions(call: Call, length: int, device: torch.device) -> Blocks:
    """Of the positions of the grid."""
    grid, counts = call.grid or (length,), call["regions"]
    counts = (counts,) * len(grid) if isinstance(counts, int) else counts
    if len(counts) != len(grid):
        raise refusal("bi-level-routing(regions)", counts, f"a whole number, or one for each axis of the grid {grid}")
    return Blocks.on_grid(grid, counts, device)


def affinity(q: Tensor, k: Tensor, blocks: Blocks, padding: Tensor | None) -> Tensor:
    """``a``, ``[batch, region, region]``."""
    queries, keys = (blocks.means(x, padding).transpose(1, 2).flatten(2) for x in (q, k))
    return queries @ keys.mT


@torch.no_grad()
def routing(q: Tensor, k: Tensor, call: Call) -> tuple[Blocks, Tensor, Tensor]:
    """The regions, their affinities, and which each sees, ``Bool[batch, 1, block, block]``; positions ahead of the grid
    are a block that sees and is seen by all."""
    require_whole("bi-level-routing", q.shape[2], k.shape[2])
    before = call.before
    blocks = regions(call, k.shape[2] - before, q.device)
    padding = None if call.padding is None else call.padding[:, before:]
    scores = affinity(q[:, :, before:], k[:, :, before:], blocks, padding)
    possible = blocks.occupied(padding)[:, None]
    if call.causal:
        possible = possible & (blocks.first <= blocks.last[:, None])
    selected = top(scores.masked_fill(~possible, -torch.inf), call["top_k"])[:, None]
    if call.causal:
        selected = selected | torch.eye(blocks.count, dtype=torch.bool, device=q.device)
    if before:
        selected = F.pad(selected, (1, 0, 1, 0), value=True)
    return blocks.behind(before), scores, selected


def mask(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[batch, 1, dest, src]``."""
    if call.padding is not None and not call.grid:
        return compacted(mask, q, k, call)
    blocks, _, selected = routing(q, k, call)
    return selected[:, :, blocks.labels][..., blocks.labels]


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """A region at a time with the keys of its regions."""
    if not block_sparse.usable(q, k, v, call, regions(call, k.shape[2] - call.before, q.device).behind(call.before)):
        return softmax_forms.masked(q, k, v, mask(q, k, call), call)
    blocks, _, selected = routing(q, k, call)
    return block_sparse.by_block(q, k, v, selected, blocks, call)


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """``affinity`` and, as numbers of regions, ``routing``, best first, ``[batch, region, top_k]``."""
    _, scores, _ = routing(q, k, call)
    order = scores.argsort(dim=-1, descending=True, stable=True)
    return {"affinity": scores, "routing": order[..., : call["top_k"]]}


operator = Operator(
    name="bi-level-routing",
    version=1,
    source="Zhu et al. 2023, arXiv 2303.08810; code rayleizhu/BiFormer",
    status="as published",
    choices=(
        "without the depthwise convolution of v that the blocks add (LePE)",
        "the layer's own scale; the code divides by the root of the full width, not of a head's",
        "sizes that the regions do not divide: the last of an axis is smaller (one of two codes pads with zeros)",
        "positions ahead of the grid see and are seen by all",
    ),
    settings={
        "regions": Setting(7, "sizes", "regions along each axis of the grid", at_least=1),
        "top_k": Setting(4, "whole number", "regions that each region sees", at_least=1),
    },
    causal="mask",
    heads_independent=False,
    resumes="no",
    form="block-selected softmax",
    records=("affinity", "routing"),
    mask=mask,
    efficient=efficient,
    record=record,
    check_length=lambda _: 32,
)
