"""One statistic each, added up from the tiles that `row_tiles` yields.

Every array is allocated once, ``[unit, group, …]``, and a tile adds its rows to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.attention.statistics.matches import TokenMatches
from workbench.attention.statistics.pooling import bin_weights, block_maxima
from workbench.attention.statistics.tiles import Tile


class Collector(Protocol):
    """Takes every tile once, all rows of some units before the next units."""

    def add(self, tile: Tile) -> None: ...
    def results(self) -> dict[str, Tensor]:
        """``[unit, group, …]`` by the names of `PatternStatistics`."""
        ...


class Mass:
    """The rows' sums."""

    def __init__(self, q: Tensor) -> None:
        self.rows = q.new_empty(q.shape[:3])

    def add(self, tile: Tile) -> None:
        self.rows[tile.units, :, tile.low : tile.high] = tile.mass

    def results(self) -> dict[str, Tensor]:
        return {"mass": self.rows}


class Entropy:
    """``−Σ A log A = mass · log Z − Σ w s / Z``, for weights ``w = exp(s)`` and their normaliser Z."""

    def __init__(self, q: Tensor) -> None:
        self.rows = q.new_empty(q.shape[:3])

    def add(self, tile: Tile) -> None:
        exponents = torch.linalg.vecdot(tile.weights, tile.scores) * tile.inverse
        self.rows[tile.units, :, tile.low : tile.high] = tile.mass * tile.log_normaliser - exponents

    def results(self) -> dict[str, Tensor]:
        return {"entropy": self.rows}


class Distance:
    """``Σ A[q, k] (q − k)``; the tiles sum the distance from their first row."""

    def __init__(self, q: Tensor) -> None:
        self.rows = q.new_empty(q.shape[:3])

    def add(self, tile: Tile) -> None:
        row = torch.arange(tile.high - tile.low, device=self.rows.device)
        self.rows[tile.units, :, tile.low : tile.high] = tile.sums[..., 1] * tile.inverse + row * tile.mass

    def results(self) -> dict[str, Tensor]:
        return {"distance": self.rows}


class WeightedValues:
    """``Σ A[q, k] v[k]``: the last columns of the sums."""

    def __init__(self, q: Tensor, d_value: int) -> None:
        self.rows = q.new_empty(*q.shape[:3], d_value)

    def add(self, tile: Tile) -> None:
        values = tile.sums[..., -self.rows.shape[-1] :] * tile.inverse[..., None]
        self.rows[tile.units, :, tile.low : tile.high] = values

    def results(self) -> dict[str, Tensor]:
        return {"z": self.rows}


class WeightedNorms:
    """``Σ A[q, k] n[k]`` with norms of each head's own, ``[unit, group, src]``."""

    def __init__(self, q: Tensor, norms: Float[Tensor, "unit group src"]) -> None:
        self.rows, self._norms = q.new_empty(q.shape[:3]), norms.to(q.dtype)

    def add(self, tile: Tile) -> None:
        norms = self._norms[tile.units, :, tile.first : tile.end, None]
        sums = (tile.weights @ norms)[..., 0]
        self.rows[tile.units, :, tile.low : tile.high] = sums * tile.inverse

    def results(self) -> dict[str, Tensor]:
        return {"value_weighted": self.rows}


class Entries:
    """``A[q, k]`` at given sources and offsets, in one gather."""

    def __init__(self, q: Tensor, sources: Sequence[int], offsets: Sequence[int]) -> None:
        self._length, self._n_sources = q.shape[2], len(sources)
        self._sources = torch.tensor(sources, device=q.device, dtype=torch.int64)
        self._offsets = torch.tensor(offsets, device=q.device, dtype=torch.int64)
        self._rows = q.new_empty(*q.shape[:3], len(sources) + len(offsets))

    def add(self, tile: Tile) -> None:
        dest = torch.arange(tile.low, tile.high, device=self._rows.device)[:, None]
        column = torch.cat([self._sources.expand(len(dest), -1), dest - self._offsets], -1) - tile.first
        n, last = tile.units.stop - tile.units.start, tile.end - tile.first - 1
        index = column.clamp(0, last).expand(n, tile.weights.shape[1], -1, -1)
        entries = tile.weights.gather(-1, index) * tile.inverse[..., None]
        seen = (column >= 0) & (column <= last)
        self._rows[tile.units, :, tile.low : tile.high] = entries * seen

    def results(self) -> dict[str, Tensor]:
        sources, offsets = self._rows.mT.tensor_split([self._n_sources], 2)
        return {"at_sources": sources, "at_offsets": offsets}


class Matched:
    """What each key receives from the destinations that it matches; and, where the pairs are not listed, from the other
    later ones."""

    def __init__(self, q: Tensor, matches: TokenMatches, listed: bool) -> None:
        self._matches, self._device = matches, q.device
        self.matched = q.new_zeros(q.shape[:3])
        self.others = None if listed else q.new_zeros(q.shape[:3])

    def add(self, tile: Tile) -> None:
        n, group, _, columns = tile.weights.shape
        if self.others is None:
            dest, src = (x.to(self._device) for x in self._matches.pairs(tile.low, tile.high))
            if tile.first:  # sources before the window have no column
                seen = src >= tile.first
                dest, src = dest[seen], src[seen]
            dest = dest - tile.low
            entries = tile.weights.flatten(2)[..., dest * columns + src - tile.first] * tile.inverse[..., dest]
            self.matched[tile.units].scatter_add_(-1, src.expand(n, group, -1), entries)
            return
        matches = self._matches.tile(tile.low, tile.high, tile.first, tile.end).to(self._device)
        dest = torch.arange(tile.low, tile.high, device=self._device)[:, None]
        later = dest > torch.arange(tile.first, tile.end, device=self._device)
        for sums, which in ((self.matched, matches), (self.others, later & ~matches)):
            received = torch.einsum("ugr,ugrc->ugc", tile.inverse, tile.weights * which)
            sums[tile.units, :, tile.first : tile.end] += received

    def results(self) -> dict[str, Tensor]:
        return {"matched": self.matched} | ({} if self.others is None else {"unmatched": self.others})


class Pooled:
    """Means over blocks of rows, which are pooled over columns when all rows of a unit are in; and what each key
    receives, which is the same product with one more row."""

    def __init__(self, q: Tensor, bins: int | None, received: bool) -> None:
        n_units, group, length, _ = q.shape
        self.received = q.new_zeros(n_units, group, length) if received else None
        self._bins = None if bins is None else bin_weights(length, bins, q)
        n_bins = 0 if self._bins is None else len(self._bins)
        self._is_whole = n_bins == length
        self.maps = q.new_zeros(n_units, group, n_bins, n_bins)
        self._rows = q.new_zeros(0)

    def add(self, tile: Tile) -> None:
        if self._bins is not None and self._is_whole:
            rows = self.maps[tile.units, :, tile.low : tile.high, tile.first : tile.end]
            torch.mul(tile.weights, tile.inverse[..., None], out=rows)
            if self.received is not None:
                self.received[tile.units, :, tile.first : tile.end] += rows.sum(-2)
            return
        touched, which = [], slice(0, 0)
        if self._bins is not None:
            bins = self._bins[:, tile.low : tile.high]
            inside = bins.any(-1).nonzero()[:, 0]
            which = slice(int(inside[0]), int(inside[-1]) + 1)
            touched.append(bins[which])
        if self.received is not None:
            touched.append(tile.weights.new_ones(1, tile.high - tile.low))
        sums = (torch.cat(touched) * tile.inverse[..., None, :]) @ tile.weights
        if self.received is not None:
            self.received[tile.units, :, tile.first : tile.end] += sums[..., -1, :]
        if self._bins is not None:
            self._pool(tile, which, sums[..., : which.stop - which.start, :])

    def _pool(self, tile: Tile, which: slice, sums: Tensor) -> None:
        n, group = tile.weights.shape[:2]
        assert self._bins is not None
        n_bins, length = self._bins.shape
        if tile.low == 0:
            if self._rows.shape[0] != n:
                self._rows = sums.new_empty(n, group, n_bins, length)
            self._rows.zero_()
        self._rows[:, :, which, tile.first : tile.end] += sums
        if tile.high == length:
            pooled = torch.nn.functional.adaptive_avg_pool2d(self._rows, (n_bins, n_bins))
            self.maps[tile.units] = pooled

    def results(self) -> dict[str, Tensor]:
        received = {} if self.received is None else {"received": self.received}
        return received | ({} if self._bins is None else {"pooled": self.maps})


class Largest:
    """The largest weight of each block of destinations and sources; a tile may begin and end within a block."""

    def __init__(self, q: Tensor, block: int) -> None:
        n_units, group, length, _ = q.shape
        n_blocks = -(-length // block)
        self.maps, self._block = q.new_zeros(n_units, group, n_blocks, n_blocks), block

    def add(self, tile: Tile) -> None:
        weights = tile.weights * tile.inverse[..., None]
        cells = block_maxima(weights, self._block, tile.low, tile.first)
        row, column = tile.low // self._block, tile.first // self._block
        rows, columns = slice(row, row + cells.shape[-2]), slice(column, column + cells.shape[-1])
        part = self.maps[tile.units, :, rows, columns]
        torch.maximum(part, cells, out=part)

    def results(self) -> dict[str, Tensor]:
        return {"largest": self.maps}


class Top:
    """The sources of each row's largest weights."""

    def __init__(self, q: Tensor, top: int) -> None:
        self.weights = q.new_zeros(*q.shape[:3], top)
        self.sources = torch.full(self.weights.shape, -1, device=q.device)

    def add(self, tile: Tile) -> None:
        weights, columns = tile.weights.topk(min(self.weights.shape[-1], tile.end - tile.first), -1)
        where = (tile.units, slice(None), slice(tile.low, tile.high), slice(0, weights.shape[-1]))
        self.weights[where] = weights * tile.inverse[..., None]
        self.sources[where] = torch.where(weights > 0, columns + tile.first, -1)

    def results(self) -> dict[str, Tensor]:
        return {"top_sources": self.sources, "top_weights": self.weights}
