"""Softmax rows in tiles that fit the processor's cache: a few destinations of one group of heads at a time.

All heads that share a key/value head are stacked, so that a tile's scores are one product. The tile is exponentiated in
place and never normalised: each statistic divides what it has summed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.attention.statistics.requested import Formula

#: Destinations of one tile where up to four heads share a key/value head, and stacked rows where more do.
ROWS, STACKED = 64, 256
#: Entries of a tile: with few positions, several key/value heads are taken at once. An accelerator takes more.
ENTRIES, ENTRIES_ON_ACCELERATOR = 2**18, 2**25
#: The score of what a row does not see, and the least maximum of a row: a row that sees nothing is 0, not even.
HIDDEN, LEAST = -1e30, -1e29


@dataclass
class Tile:
    """Destinations from `low` to `high` of some key/value heads, and the sources from `first` to `end` that they see.

    Attributes:
        units: which key/value heads of which inputs, ``batch · kv_head``.
        weights: ``exp(score − maximum of the row)``. scores: the exponents. Both ``[unit, group, row, column]``.
        inverse: one over the row's normaliser. log_normaliser: its logarithm.
        sums: ``weights @ [1, low − source, values…]``, with the columns that were requested.
    """

    units: slice
    low: int
    high: int
    first: int
    end: int
    weights: Float[Tensor, "unit group row column"]
    scores: Float[Tensor, "unit group row column"]
    inverse: Float[Tensor, "unit group row"]
    log_normaliser: Float[Tensor, "unit group row"]
    sums: Float[Tensor, "unit group row columns"]

    @property
    def mass(self) -> Float[Tensor, "unit group row"]:
        """The row's sum."""
        return self.sums[..., 0] * self.inverse


def row_tiles(
    q: Float[Tensor, "unit group pos d_head"],
    k: Float[Tensor, "unit pos d_head"],
    formula: Formula,
    *,
    distance: bool = False,
    values: Float[Tensor, "unit pos d_value"] | None = None,
    sinks: Float[Tensor, "unit group"] | None = None,
    mask: Bool[Tensor, "pos pos"] | None = None,
) -> Iterator[Tile]:
    """Every tile of some patterns, all rows of some key/value heads before the next. A tile's tensors are overwritten
    by the next one's.

    Args:
        q, k: at least in float32.
        distance: whether the sums have a column of ``low − source``.
        values: further columns of the sums.
        sinks: one more logit for each head.
        mask: what each destination sees, of what the formula lets it see.
    """
    n_units, group, length, _ = q.shape
    rows = min(length, ROWS if group <= 4 else max(16, STACKED // group))
    entries = ENTRIES if q.device.type == "cpu" else ENTRIES_ON_ACCELERATOR
    at_once = max(1, min(n_units, entries // max(1, group * rows * length)))
    room = [q.new_empty(at_once * group * rows * length) for _ in range(2)]
    position = torch.arange(length, device=q.device, dtype=q.dtype)
    for unit in range(0, n_units, at_once):
        units = slice(unit, min(unit + at_once, n_units))
        n = units.stop - units.start
        keys, right = k[units], _columns(q, n, length, distance, None if values is None else values[units])
        for low in range(0, length, rows):
            high = min(low + rows, length)
            first = max(0, low - formula.window + 1) if formula.causal and formula.window is not None else 0
            end = high if formula.causal else length
            shape = (n, group * (high - low), end - first)
            size = n * group * (high - low) * (end - first)
            scores, weights = (each[:size].view(shape) for each in room)
            torch.bmm(q[units, :, low:high].flatten(1, 2) * formula.scale, keys[:, first:end].mT, out=scores)
            scores, weights = (x.unflatten(1, (group, high - low)) for x in (scores, weights))
            if formula.softcap is not None:
                scores.div_(formula.softcap).tanh_().mul_(formula.softcap)
            _hide(scores, low, high, first, formula)
            if mask is not None:
                scores.masked_fill_(~mask[low:high, first:end], HIDDEN)
            peak = scores.amax(-1, keepdim=True)
            if sinks is not None:
                peak = torch.maximum(peak, sinks[units, :, None, None])
            peak.clamp_(min=LEAST)
            torch.exp(scores.sub_(peak), out=weights)
            if right is None:
                sums = weights.sum(-1, keepdim=True)
            else:
                if distance:
                    right[:, :, 1] = low - position
                sums = torch.bmm(weights.flatten(1, 2), right[:, first:end]).unflatten(1, (group, high - low))
            normaliser = sums[..., 0]
            if sinks is not None:
                normaliser = normaliser + torch.exp(sinks[units, :, None] - peak[..., 0])
            normaliser = normaliser.clamp(min=torch.finfo(q.dtype).tiny)
            yield Tile(units, low, high, first, end, weights, scores, normaliser.reciprocal(), normaliser.log(), sums)


def _columns(q: Tensor, n: int, length: int, distance: bool, values: Tensor | None) -> Tensor | None:
    """The right side of the sums' product, ``[unit, pos, columns]``; None where the normaliser alone is requested."""
    if not distance and values is None:
        return None
    parts = [q.new_ones(n, length, 2 if distance else 1)]
    return torch.cat(parts if values is None else [*parts, values.to(q.dtype)], -1)


def _hide(scores: Tensor, low: int, high: int, first: int, formula: Formula) -> None:
    """Hide later sources and those before the window, each in the part of the tile where there are any."""
    if not formula.causal:
        return
    dest = torch.arange(low, high, device=scores.device)[:, None]
    own = torch.arange(low, high, device=scores.device)
    scores[..., low - first :].masked_fill_(own > dest, HIDDEN)
    if formula.window is not None and high > formula.window:
        left = scores[..., : high - low]
        source = torch.arange(first, first + left.shape[-1], device=scores.device)
        left.masked_fill_(source <= dest - formula.window, HIDDEN)
