"""Pattern-aware reordering (PARO): each head puts the grid's axes in the order that makes its pattern blocks.

An order of the axes of a grid (six for a video, two for an image) puts the positions in a row, and the pattern in
blocks of `block` × `block`. Two numbers judge it: the share of *sparse* blocks, in which at least `sigma` of the
entries are below `epsilon`; and *incoherence*, the mean over blocks of largest over mean entry. Each is scaled to 0 …
1 over the orders, and the least ``alpha · (1 − sparse) + (1 − alpha) · incoherence`` wins. (As the sources print it,
with ``sparse`` itself, the order with the *fewest* sparse blocks wins: ``sign="printed"``.) In that order each row of
blocks keeps the `density` of its blocks with the largest sums, and its own. ``A = softmax(scale · q kᵀ)`` over their
keys.

The paper fixes orders and blocks offline: `calibrated` gives them as ``call.data``; without, they are those of the
call's own pattern, so that later positions change them even where the model is causal. A sequence is a grid of one
axis.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from math import ceil, prod

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.attention.call import Call
from workbench.attention.operator import Operator
from workbench.attention.primitives import block_sparse, softmax_forms
from workbench.attention.primitives.blocks import Blocks, require_whole, top
from workbench.attention.primitives.padding import compacted
from workbench.attention.settings import Setting


def orders(grid: tuple[int, ...], device: torch.device) -> Tensor:
    """The positions in each order of the axes, ``[order, pos]``; the grid's own is first."""
    at = torch.arange(prod(grid), device=device).view(grid)
    return torch.stack([at.permute(axes).flatten() for axes in permutations(range(len(grid)))])


def in_blocks(pattern: Tensor, block: int) -> Tensor:
    """``[..., n, n]`` as ``[..., n/block, n/block, block · block]``, filled up with 0."""
    more = -pattern.shape[-1] % block
    cut = F.pad(pattern, (0, more, 0, more)).unflatten(-1, (-1, block)).unflatten(-3, (-1, block))
    return cut.transpose(-3, -2).flatten(-2)


def metrics(pattern: Tensor, order: Tensor, call: Call) -> tuple[Tensor, Tensor, Tensor]:
    """Of a pattern ``[..., n, n]`` in an order: share of sparse blocks, incoherence (of blocks that hold something),
    both ``[...]``, and the blocks' sums."""
    ordered = pattern[..., order, :][..., order]
    cut, size = in_blocks(ordered, call["block"]), in_blocks(torch.ones_like(ordered), call["block"]).sum(-1)
    total, largest = cut.sum(-1), cut.amax(-1)
    small = size - (cut >= call["epsilon"]).sum(-1)
    sparse = (small >= call["sigma"] * size).to(cut.dtype).mean((-2, -1))
    ratio = torch.where(total > 0, largest * size / total.clamp(min=torch.finfo(total.dtype).tiny), 0)
    return sparse, ratio.sum((-2, -1)) / (total > 0).sum((-2, -1)).clamp(min=1), total


def judged(sparse: Tensor, incoherence: Tensor, call: Call) -> Tensor:
    """What the best order has least of, from both numbers of every order, ``[order, ...]``."""
    return call["alpha"] * _scaled(sparse if call["sign"] == "printed" else 1 - sparse) + (1 - call["alpha"]) * _scaled(
        incoherence
    )


def _scaled(x: Tensor) -> Tensor:
    low, high = x.amin(0), x.amax(0)
    return (x - low) / torch.where(high > low, high - low, 1)


@torch.no_grad()
def calibrated(q: Tensor, k: Tensor, call: Call) -> dict[str, Tensor]:
    """Of each example and head: ``order``, the number of its order of the axes; ``blocks``, the pairs of blocks kept
    in it; and of all orders ``sparse`` and ``incoherence``, ``[batch, head, order]``. The first two serve as
    ``call.data``, with one example for all."""
    require_whole("pattern-reordered", q.shape[2], k.shape[2])
    before = call.before
    candidates = orders(call.grid or (k.shape[2],), q.device)
    examples = []
    for example in range(q.shape[0]):
        for head in range(q.shape[1]):
            own = replace(call, visible=_of(call.visible, example, head), padding=_of(call.padding, example))
            queries, keys = (x[example, head][None, None] for x in (q, k))
            every = q.new_ones(1, 1, k.shape[2], k.shape[2], dtype=torch.bool)
            pattern = softmax_forms.pattern(queries, keys, every, own)[0, 0, before:, before:]
            judgements = [metrics(pattern, order, call) for order in candidates]
            sparse, incoherence, totals = (torch.stack(column) for column in zip(*judgements, strict=True))
            best = judged(sparse, incoherence, call).argmin()
            count = totals.shape[-1]
            chosen = top(totals[best], ceil(call["density"] * count - 1e-9))
            chosen |= torch.eye(count, dtype=torch.bool, device=q.device)
            examples.append((best, chosen, sparse, incoherence))
    names = ("order", "blocks", "sparse", "incoherence")
    columns = (torch.stack(column).unflatten(0, q.shape[:2]) for column in zip(*examples, strict=True))
    return dict(zip(names, columns, strict=True))


def _of(x: Tensor | None, *at: int) -> Tensor | None:
    """One example (and head) of what may be shared."""
    for axis, index in enumerate(at):
        x = None if x is None else x.narrow(axis, min(index, x.shape[axis] - 1), 1)
    return x


def layout(q: Tensor, k: Tensor, call: Call) -> tuple[list[Blocks], Tensor, Tensor]:
    """Each order's blocks; every head's order, ``[batch, head]``; and its pairs of blocks, those ahead of the grid
    included, which see and are seen by all."""
    require_whole("pattern-reordered", q.shape[2], k.shape[2])
    data = call.data if "order" in call.data else calibrated(q, k, call)
    order, selected = (data[name].expand(q.shape[0], *data[name].shape[1:]) for name in ("order", "blocks"))
    size = k.shape[2] - call.before
    blocks = []
    for positions in orders(call.grid or (k.shape[2],), q.device):
        labels = torch.empty_like(positions)
        labels[positions] = torch.arange(size, device=q.device) // call["block"]
        blocks.append(Blocks(labels, -(-size // call["block"])).behind(call.before))
    if call.before:
        selected = F.pad(selected, (1, 0, 1, 0), value=True)
    return blocks, order, selected


def mask(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[batch, head, dest, src]``."""
    if call.padding is not None and not call.grid:
        return compacted(mask, q, k, call)
    blocks, order, selected = layout(q, k, call)
    labels = torch.stack([part.labels for part in blocks])[order]
    rows = selected.gather(2, labels[..., None].expand(-1, -1, -1, selected.shape[-1]))
    return rows.gather(3, labels[:, :, None].expand(-1, -1, labels.shape[-1], -1))


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """In each head's order, a block of queries at a time with the keys of its blocks."""
    in_order = Blocks.even(k.shape[2], call["block"], q.device)
    if (call.causal and call.grid) or not block_sparse.usable(q, k, v, call, in_order):
        return softmax_forms.masked(q, k, v, mask(q, k, call), call)
    blocks, order, selected = layout(q, k, call)
    z = torch.empty_like(v)
    for example, head in torch.cartesian_prod(*(torch.arange(n) for n in v.shape[:2])).tolist():
        at = (slice(example, example + 1), slice(head, head + 1))
        own = blocks[int(order[example, head])]
        z[at] = block_sparse.by_block(q[at], k[at], v[at], selected[at], own, call)
    return z


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """``order``, ``sparse``, ``incoherence`` and ``blocks`` as `calibrated` gives them of this call's pattern, and
    ``density``, the share of the blocks that are kept."""
    own = calibrated(q, k, call)
    return {**own, "density": own["blocks"].to(q.dtype).mean((-2, -1))}


operator = Operator(
    name="pattern-reordered",
    version=1,
    source="Zhao et al. 2025, arXiv 2506.16054 (PAROAttention), from summaries",
    status="reconstruction",
    choices=(
        "the best order has the *most* sparse blocks; as printed it would have the fewest",
        "alpha, sigma, epsilon and density, which the sources do not give; 16 positions a block instead of 64",
        "numbers are scaled to 0 … 1 between the least and the largest of all orders; the first of equal orders wins",
        "incoherence is over blocks that hold something",
        "each row of blocks keeps its own share, and its own block; without quantisation",
        "positions ahead of the grid see and are seen by all",
    ),
    settings={
        "block": Setting(16, "whole number", "positions of a block", at_least=1),
        "density": Setting(0.3, "number", "share of blocks that each row of blocks keeps", above=0, at_most=1),
        "alpha": Setting(0.5, "number", "weight of the share of sparse blocks", at_least=0, at_most=1),
        "sigma": Setting(0.9, "number", "share of small entries that makes a block sparse", at_least=0, at_most=1),
        "epsilon": Setting(1e-3, "number", "below it an entry is small", at_least=0),
        "sign": Setting("mended", "word", "whether sparse blocks count for an order", choices=("mended", "printed")),
    },
    causal="mask",
    resumes="no",
    form="softmax",
    records=("order", "blocks", "sparse", "incoherence", "density"),
    mask=mask,
    efficient=efficient,
    record=record,
    check_length=lambda settings: 3 * settings["block"] + 8,
)
