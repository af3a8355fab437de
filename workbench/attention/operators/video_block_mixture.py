"""Video mixture of block attention (VMoBA): each query sees its own block of a video, and others by one threshold.

Blocks of a grid (time, row, column), by layer mod 3 (`partition`): 0, runs in time (`slabs` of them, in raster
order); 1, columns of space through all frames (`columns`); 2, cubes (`cubes`). All pairs (block, query) of a head are
scored by ``q · mean of k`` and scaled to 0 … 1 over the head; a query's own block is always seen, and other pairs in
descending order until they and the own ones hold the share `threshold` of the sum of all (the pair that crosses it
included, so one at least). With ``select="top-k"``: ``top_k`` pairs a query, its own included. ``scope="query_head"``
does either for each query alone.

The released code attends to everything where no block beside the own ones is selected (top_k=1), and with
``scope="query_head"`` takes two others alone where all do not reach the threshold; `released` does so too.

``A = softmax(scale · q kᵀ)`` over the keys of the selected blocks. Where the model is causal a position sees of them
what is not later, and only such pairs are compared; but which are selected depends on later positions too.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from workbench.arguments import refusal
from workbench.attention.call import Call
from workbench.attention.layer import Settings
from workbench.attention.operator import Operator
from workbench.attention.primitives import block_sparse, softmax_forms
from workbench.attention.primitives.blocks import Blocks, require_whole, top
from workbench.attention.primitives.padding import compacted
from workbench.attention.settings import Setting

PARTITIONS = ("1d", "2d", "3d")
#: Added to the sum of all scores, as in the code.
EPSILON = 1e-6


def partition(call: Call, length: int, device: torch.device) -> Blocks:
    """Of the positions of the grid.

    Raises:
        UsageError: a partition in two or three dimensions of a sequence.
    """
    grid = call.grid or (length,)
    kind = call["partition"]
    if kind == "layer":
        kind = PARTITIONS[call.layer % 3] if len(grid) > 1 else "1d"
    if kind == "1d":
        return Blocks.even(prod(grid), -(-prod(grid) // call["slabs"]), device)
    if len(grid) not in (2, 3):
        raise refusal("grid", call.grid, f"(time, rows, columns) or (rows, columns) for partition={kind!r}")
    grid = (1,) * (3 - len(grid)) + tuple(grid)
    counts = (1, *_sizes(call["columns"], 2)) if kind == "2d" else _sizes(call["cubes"], 3)
    return Blocks.on_grid(grid, counts, device)


def _sizes(value: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value)


def similarity(q: Tensor, k: Tensor, blocks: Blocks, padding: Tensor | None) -> Tensor:
    """``q · mean of k``, ``[batch, head, query, block]``."""
    means = blocks.means(k, padding)
    return q.to(means.dtype) @ means.mT


def by_threshold(scores: Tensor, own: Tensor, possible: Tensor, threshold: float, most: int | None = None) -> Tensor:
    """Along the last axis: the own entries, and others by size until both hold that share of the sum, or all where they
    never do (`most` of them)."""
    low = scores.masked_fill(~possible, torch.inf).amin(-1, keepdim=True)
    spread = scores.masked_fill(~possible, -torch.inf).amax(-1, keepdim=True) - low
    share = ((scores - low) / torch.where(spread > EPSILON, spread, 1)).masked_fill(~possible, 0)
    total = share.sum(-1, keepdim=True) + EPSILON
    missing = (threshold - (share * own).sum(-1, keepdim=True) / total).clamp(min=0)
    sizes, order = share.masked_fill(own, 0).sort(dim=-1, descending=True, stable=True)
    held = sizes.cumsum(-1) / total
    chosen = held.roll(1, -1) < missing  # by those before
    chosen[..., 0] = True
    if most is not None:
        chosen[..., most:] &= (held >= missing).any(-1, keepdim=True)
    return own & possible | torch.zeros_like(chosen).scatter(-1, order, chosen) & possible


@torch.no_grad()
def selection(q: Tensor, k: Tensor, call: Call) -> tuple[Blocks, Tensor]:
    """The blocks, and which each position sees, ``Bool[batch, head, src, block]``; positions ahead of the grid are a
    block that sees and is seen by all."""
    whole_head = call["scope"] == "head_global"
    src, before = k.shape[2], call.before
    if whole_head:
        require_whole("video-block-mixture(scope='head_global')", q.shape[2], src)
    blocks = partition(call, src - before, q.device)
    first = max(src - q.shape[2], before)
    padding = None if call.padding is None else call.padding[:, before:]
    scores = similarity(q[:, :, first - src :], k[:, :, before:], blocks, padding)
    own = blocks.own()[first - src :].expand_as(scores)
    possible = blocks.occupied(padding)[:, None, None].expand_as(scores)
    if padding is not None:
        possible = possible & padding[:, None, first - src :, None]
    if call.causal:
        possible = possible & (blocks.first <= torch.arange(first - before, src - before, device=q.device)[:, None])
    shape = scores.mT.shape
    if whole_head:  # one row of all pairs, a block's beside each other
        scores, own, possible = (x.mT.flatten(-2)[..., None, :] for x in (scores, own, possible))
    if call["select"] == "top-k":
        ranked = scores.masked_fill(own, torch.inf).masked_fill(~possible, -torch.inf)
        selected = top(ranked, call["top_k"] * (own & possible).sum(-1, keepdim=True))
    else:
        most = 2 if call["released"] and not whole_head else None
        selected = by_threshold(scores, own, possible, call["threshold"], most)
    if call["released"]:
        selected = selected | possible & ~(selected & ~own).flatten(1).any(1)[:, None, None, None]
    if whole_head:
        selected = selected.squeeze(-2).unflatten(-1, shape[-2:]).mT
    if before:
        selected = torch.nn.functional.pad(selected, (1, 0, q.shape[2] - selected.shape[2], 0), value=True)
    return blocks.behind(before), selected


def mask(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[batch, head, dest, src]``."""
    if call.padding is not None and not call.grid:
        return compacted(mask, q, k, call)
    blocks, selected = selection(q, k, call)
    return selected[..., blocks.labels]


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """A block of keys at a time: the queries that selected it are gathered, and merged by their log-sum-exp."""
    if not block_sparse.usable(q, k, v, call, partition(call, k.shape[2] - call.before, q.device)):
        return softmax_forms.masked(q, k, v, mask(q, k, call), call)
    blocks, selected = selection(q, k, call)
    return block_sparse.by_query(q, k, v, selected, blocks, call)


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """Of the grid's positions: similarities and which pairs were selected, ``[batch, head, query, block]``; how many
    blocks each query sees, ``[batch, head, query]``; the share of pairs selected, ``[batch, head]``."""
    _, selected = selection(q, k, call)
    skip = min(call.before, 1)
    selected = selected[:, :, max(call.before - (k.shape[2] - q.shape[2]), 0) :, skip:]
    blocks = partition(call, k.shape[2] - call.before, q.device)
    padding = None if call.padding is None else call.padding[:, call.before :]
    scores = similarity(q[:, :, q.shape[2] - selected.shape[2] :], k[:, :, call.before :], blocks, padding)
    return {
        "similarity": scores,
        "selection": selected,
        "pairs": selected.sum(-1),
        "density": selected.to(scores.dtype).mean((-2, -1)),
    }


def check(settings: Settings) -> None:
    """Two counts for columns, three for cubes."""
    for name, axes in (("columns", 2), ("cubes", 3)):
        if not isinstance(settings[name], int) and len(settings[name]) != axes:
            raise refusal(f"video-block-mixture({name})", settings[name], f"a whole number, or {axes} of them")


operator = Operator(
    name="video-block-mixture",
    version=1,
    source="Wu et al. 2025, arXiv 2506.23858; code KwaiVGI/VMoBA",
    status="as released",
    choices=(
        "how the published 48 columns and 72 cubes are laid out: 6 × 8 and 3 × 6 × 4",
        "sizes that the counts do not divide: the last block of an axis is smaller (the code refuses them)",
        "a sequence has the partition in one dimension alone, whatever the layer",
        "positions ahead of the grid see and are seen by all",
    ),
    settings={
        "partition": Setting("layer", "word", "by layer mod 3, or always one", choices=("layer", *PARTITIONS)),
        "slabs": Setting(8, "whole number", "blocks of the partition in time", at_least=1),
        "columns": Setting((6, 8), "sizes", "blocks along rows and columns", at_least=1),
        "cubes": Setting((3, 6, 4), "sizes", "blocks along time, rows and columns", at_least=1),
        "select": Setting("threshold", "word", "which pairs are seen", choices=("threshold", "top-k")),
        "threshold": Setting(0.25, "number", "share of the scores' sum that is seen; above 1 all", at_least=0),
        "top_k": Setting(3, "whole number", "of select='top-k': blocks a query, its own included", at_least=1),
        "scope": Setting(
            "head_global",
            "word",
            "what is compared: all pairs of a head as in the paper, or each query's as in the code's default",
            choices=("head_global", "query_head"),
        ),
        "released": Setting(False, "flag", "with the released code's two slips"),
    },
    needs=("grid",),
    causal="mask",
    resumes="no",
    form="block-selected softmax",
    records=("similarity", "selection", "pairs", "density"),
    mask=mask,
    efficient=efficient,
    record=record,
    trial=lambda batch, length: {"grid": (2, 3, max(length // 6, 1)), "before": 1},
    check_length=lambda settings: 4 * settings["slabs"],
    check=check,
)
