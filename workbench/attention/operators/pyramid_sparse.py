"""Pyramid sparse attention (PSA): the less a block of keys matters to a block of queries, the coarser it is read.

Each pair (block of `query_block` queries, block of `key_block` keys) has a level 1, 2, 4, 8 or 0. At level l the
block's keys and values are means of l tokens, and **log l is added to their scores**, so that one softmax over
everything that remains counts a mean as l tokens; level 0 drops the block. As a pattern over tokens the weight of a
mean is spread evenly over its tokens: rows sum to one, and give the same z.

The importance of a pair is the largest ``exp(highest score in the block − highest score of the row)`` over its rows
(no normaliser: it is 1 for every block that holds some row's best key). Pairs of a row of blocks are ranked, and the
first `level_1` of them are read at level 1, up to `level_2` at level 2, and so on; with ``select="energy"`` these are
shares of the summed importance. Runs of a level are rounded up to multiples of ``l / (key_block / tile)``, as the
kernel needs.

Where attention is causal, a mean is seen by those that come after the last of its tokens, or are it, and blocks of
keys that reach into a block of queries are at level 1; a block's level depends on all its queries.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.arguments import refusal
from workbench.attention.call import Call
from workbench.attention.layer import Settings
from workbench.attention.operator import Operator
from workbench.attention.primitives import block_sparse, softmax_forms
from workbench.attention.primitives.blocks import Blocks, ranks, require_whole
from workbench.attention.primitives.padding import compacted, refuse_padding
from workbench.attention.settings import Setting

LEVELS = (1, 2, 4, 8)
#: Of select="energy": the least share of blocks at level 1, as in the code.
LEAST = 0.06


@torch.no_grad()
def importance(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """Of each pair of blocks, in 0 … 1, ``[batch, head, query block, key block]``; −1 where no query sees a key."""
    keys, size, stride = Blocks.even(k.shape[2], call["key_block"], q.device), call["query_block"], call["stride"]
    at, every = torch.arange(k.shape[2], device=q.device), -(-call["key_block"] // stride)
    sources = at[at % call["key_block"] % stride == 0]
    k = k[:, :, sources]
    rows = []
    for start in range(0, q.shape[2], size):
        destinations = at[start : start + size : stride]
        scores = (q[:, :, destinations] * call.scale) @ k.mT
        if call.causal:
            scores = scores.masked_fill(sources > destinations[:, None], -torch.inf)
        filled = F.pad(scores, (0, -scores.shape[-1] % every), value=-torch.inf)
        best = filled.unflatten(-1, (-1, every)).amax(-1)
        row = torch.exp(best - best.amax(-1, keepdim=True)).amax(2)
        visible = keys.first < start + size if call.causal else torch.ones_like(keys.first, dtype=torch.bool)
        rows.append(row.masked_fill(~visible, -1))
    return torch.stack(rows, 2)


@torch.no_grad()
def levels(scores: Tensor, k: Tensor, call: Call) -> Tensor:
    """The level of each pair of blocks from its importance."""
    place, some = ranks(scores), scores >= 0
    number = some.sum(-1)
    ordered = scores.clamp(min=0).sort(dim=-1, descending=True, stable=True).values
    energy = ordered.cumsum(-1) / ordered.sum(-1, keepdim=True)
    result, start = torch.zeros_like(place), torch.zeros_like(number)
    for level in LEVELS:
        share = call[f"level_{level}"]
        if call["select"] == "energy":
            within = (energy <= share + 1e-6).sum(-1)
            end = torch.where(within > 0, within + 1, start)
        else:
            end = (number * share + 1e-9).floor().long()
        if level == 1:
            end = end.maximum((number * LEAST).long() + 1 if call["select"] == "energy" else torch.ones_like(end))
        end = end.minimum(number).maximum(start)
        multiple = -(-level // max(call["key_block"] // call["tile"], 1))
        end = (start + -(-(end - start) // multiple) * multiple).minimum(number)
        end = torch.where(end == number, start + (end - start) // multiple * multiple, end)
        result = torch.where((place >= start[..., None]) & (place < end[..., None]), level, result)
        start = end
    if call.causal:
        keys, size = Blocks.even(k.shape[2], call["key_block"], k.device), call["query_block"]
        begin = torch.arange(scores.shape[2], device=k.device)[:, None] * size
        result = result.masked_fill(keys.last >= begin, 1)
        if call["first_block"]:
            result[..., 0] = 1
        result = result.masked_fill(~some, 0)
    return result.minimum(allowed(k, call)[:, :, None]) if call["cap"] else result


def allowed(k: Tensor, call: Call) -> Tensor:
    """The highest level of each block of keys whose ends are alike: the mean cosine of the first and last of each l
    tokens is above ``alike_l``, ``[batch, head, key block]``."""
    size = call["key_block"]
    padded = F.pad(k, (0, 0, 0, -k.shape[2] % size)).unflatten(2, (-1, size))
    real = torch.arange(padded.shape[2] * size, device=k.device).view(-1, size) < k.shape[2]
    result = torch.ones(padded.shape[:3], dtype=torch.long, device=k.device)
    for level in LEVELS[1:]:
        ends = slice(level - 1, None, level)
        last, complete = padded[..., ends, :], real[:, ends]
        cosine = F.cosine_similarity(padded[..., ::level, :][..., : last.shape[3], :], last, dim=-1)
        mean = (cosine * complete).sum(-1) / complete.sum(-1).clamp(min=1)
        result = torch.where((mean > call[f"alike_{level}"]) & complete.any(-1), level, result)
    return result


def pools(length: int, size: int, level: int, device: torch.device) -> Blocks:
    """Each block's tokens by `level`; the last of a block may be fewer."""
    at = torch.arange(length, device=device)
    labels = at // size * -(-size // level) + at % size // level
    return Blocks(labels, int(labels[-1]) + 1)


def spread(q: Tensor, k: Tensor, table: Tensor, call: Call) -> Tensor:
    """The pattern over tokens with these levels of pairs of blocks."""
    at, size = torch.arange(k.shape[2], device=q.device), call["key_block"]
    scores, keep, pooled = [], [], [pools(k.shape[2], size, level, q.device) for level in LEVELS]
    rows = table[:, :, at // call["query_block"]]
    for level, pool in zip(LEVELS, pooled, strict=True):
        means = pool.means(k).to(k.dtype)
        scores.append((q * call.scale) @ means.mT + pool.sizes.to(q.dtype).log())
        seen = rows[..., pool.first // size] == level
        keep.append(seen & (pool.last <= at[:, None]) if call.causal else seen)
    weights = softmax_forms.softmax(torch.cat(scores, -1), torch.cat(keep, -1))
    parts = weights.split([pool.count for pool in pooled], -1)
    even = ((part / pool.sizes.to(q.dtype))[..., pool.labels] for part, pool in zip(parts, pooled, strict=True))
    return sum(even, torch.zeros((), dtype=q.dtype, device=q.device))


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """The pattern over tokens."""
    if call.padding is not None:
        return compacted(matrix, q, k, call, q.dtype)
    require_whole("pyramid-sparse", q.shape[2], k.shape[2])
    return spread(q, k, levels(importance(q, k, call), k, call), call)


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """A block of queries at a time with what its levels leave of the keys."""
    if not block_sparse.usable(q, k, v, call, Blocks.even(k.shape[2], call["key_block"], q.device)):
        return matrix(q, k, call) @ v
    return _blockwise(q, k, v, levels(importance(q, k, call), k, call), call)


@torch.no_grad()
def _blockwise(q: Tensor, k: Tensor, v: Tensor, table: Tensor, call: Call) -> Tensor:
    size, rows = call["query_block"], torch.arange(q.shape[2], device=q.device)
    pooled = [pools(k.shape[2], call["key_block"], level, q.device) for level in LEVELS]
    keys, values = (torch.cat([pool.means(x).to(x.dtype) for pool in pooled], 2) for x in (k, v))
    join = partial(torch.cat, dim=0)
    last, number = join([pool.last for pool in pooled]), join([pool.sizes for pool in pooled])
    block = join([pool.first for pool in pooled]) // call["key_block"]
    level = join([torch.full_like(pool.sizes, level) for level, pool in zip(LEVELS, pooled, strict=True)])
    z, bias = torch.zeros_like(v), number.to(q.dtype).log()
    for example, head in torch.cartesian_prod(*(torch.arange(n) for n in v.shape[:2])).tolist():
        own = [x[example, head].contiguous() for x in (q, keys, values)]
        for i, start in enumerate(range(0, q.shape[2], size)):
            seen = table[example, head, i, block] == level
            early = (seen & (last <= start)).nonzero().flatten() if call.causal else seen.nonzero().flatten()
            late = (seen & (last > start)).nonzero().flatten() if call.causal else early[:0]
            index, at = join([early, late]), rows[start : start + size]
            scores = (own[0][at] * call.scale) @ own[1].index_select(0, index).mT + bias[index]
            scores[:, len(early) :].masked_fill_(last[late] > at[:, None], -torch.inf)
            z[example, head, at] = torch.softmax(scores, -1) @ own[2].index_select(0, index)
    return z


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """``levels`` and ``importance``, ``[batch, head, query block, key block]`` (−1: not visible), and ``density``, the
    mean of 1/level over visible pairs, ``[batch, head]``."""
    refuse_padding("pyramid-sparse", call)
    require_whole("pyramid-sparse", q.shape[2], k.shape[2])
    scores = importance(q, k, call)
    table = levels(scores, k, call)
    share = torch.where(table > 0, 1 / table.clamp(min=1).to(scores.dtype), 0)
    return {"levels": table, "importance": scores, "density": share.sum((-2, -1)) / (scores >= 0).sum((-2, -1))}


def check(settings: Settings) -> None:
    """Shares that grow."""
    shares = [settings[f"level_{level}"] for level in LEVELS]
    if shares != sorted(shares):
        raise refusal("pyramid-sparse(level_1 … level_8)", shares, "shares that grow, up to which each level goes")


def _share(default: float, level: int) -> Setting:
    return Setting(default, "number", f"share of blocks up to which level {level} goes", at_least=0, at_most=1)


def _alike(default: float, level: int) -> Setting:
    return Setting(default, "number", f"of cap: cosine above which level {level} is allowed")


operator = Operator(
    name="pyramid-sparse",
    version=1,
    source="Li et al. 2025, arXiv 2512.04025; code ziplab/Pyramid-Sparse-Attention",
    status="as published",
    choices=(
        "importance from every token, or every `stride`-th, instead of a random quarter of each block",
        "the best pair of each row of blocks is at level 1: the shares alone may leave a row of few blocks empty",
        "in a block of fewer than l tokens, and in the rest of one, a mean counts as the tokens that it has",
        "a quarter of the released block sizes: 32 queries, 16 keys, 8 a tile",
        "where attention is causal, shares are of the blocks that are visible",
    ),
    settings={
        "query_block": Setting(32, "whole number", "positions of a block of queries", at_least=1),
        "key_block": Setting(16, "whole number", "positions of a block of keys", at_least=1),
        "level_1": _share(0.10, 1),
        "level_2": _share(0.15, 2),
        "level_4": _share(0.15, 4),
        "level_8": _share(0.35, 8),
        "select": Setting("rank", "word", "what the shares are of", choices=("rank", "energy")),
        "tile": Setting(8, "whole number", "keys that the kernel reads at once", at_least=1),
        "stride": Setting(1, "whole number", "importance from every so many tokens of a block", at_least=1),
        "first_block": Setting(False, "flag", "causal: the first block at level 1, as in the released example"),
        "cap": Setting(False, "flag", "coarse levels only in blocks whose neighbouring keys are alike"),
        "alike_2": _alike(0.75, 2),
        "alike_4": _alike(0.7, 4),
        "alike_8": _alike(0.7, 8),
    },
    causal="mask",
    resumes="no",
    form="pooled softmax",
    records=("levels", "importance", "density"),
    matrix=matrix,
    efficient=efficient,
    record=record,
    check_length=lambda settings: 4 * max(settings["query_block"], settings["key_block"]) + 8,
    check=check,
)
