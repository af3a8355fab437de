"""Windows of neighbourhood attention, and how many tiles of keys a block-sparse kernel visits for them.

A query sees `size` keys, `dilation` apart. With a `stride`, queries in groups of it share the window of their leader.
Windows shift inwards at the edges, so that each has `size` keys, unless attention is causal. Dimensions of a grid
combine: a key is seen if it is in the window of every dimension.

Source:
    Hassani et al. 2025, Generalized Neighborhood Attention, arXiv 2504.16922; NATTEN 0.21 (``reference/mask.hpp``,
    ``backends/flex.py``). The tile count is ours: NATTEN's simulator is not released.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench.arguments import flag, refusal, sequence, whole_number
from workbench.attention.primitives.neighbourhood import Axis


def window(
    n: int, size: int, stride: int = 1, dilation: int = 1, causal: bool = False
) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    """The first and the last key of each query along one dimension; between them the window has every `dilation`-th.

    With r = i mod dilation, all counts inside the residue class of r, which has m positions: i' = i div dilation.

    - Not causal: the leader of the group g = i' div stride is ``min(g · stride + stride div 2, m − 1)``; its window has
      ``size div 2`` keys on the left and the rest on the right, and is shifted to lie within 0 … m − 1.
    - Causal: the leader is ``min(g · stride + stride − 1, m − 1)``; keys from ``max(leader − size + 1, 0)`` to i'.

    Args:
        n: positions. size: keys of a window, or -1 for all. stride: queries that share a window, at most `size`.
        dilation: how far apart keys are; ``size · dilation`` is at most n.
        The keys of query i are ``first[i] + dilation · (0, 1, …)`` up to ``last[i]``.

    Raises:
        UsageError: a window that does not fit.

    Examples:
        >>> from workbench.attention.cost.tiles import window
        >>> first, last = window(8, 3)
        >>> first.tolist(), last.tolist()
        ([0, 0, 1, 2, 3, 4, 5, 5], [2, 2, 3, 4, 5, 6, 7, 7])
    """
    n, size, stride, dilation, causal = _checked(n, size, stride, dilation, causal)
    return Axis(size, stride, dilation, causal).ends(torch.arange(n), n)


def mask(
    grid: int | Sequence[int],
    window_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    causal: bool | Sequence[bool] = False,
) -> Bool[Tensor, "dest src"]:
    """Which keys each position of a grid sees, in raster order: the Kronecker product of its dimensions' masks.

    Args:
        grid: the size of each dimension.
        window_size, stride, dilation, causal: as in `window`, one for all dimensions or one each.

    Raises:
        UsageError: a window that does not fit, or another number of dimensions.

    Examples:
        >>> from workbench.attention.cost.tiles import mask
        >>> mask((4, 4), (3, 3)).sum(1).tolist() == [9] * 16
        True
    """
    result = torch.ones(1, 1, dtype=torch.bool)
    for settings in _dimensions(grid, window_size, stride, dilation, causal):
        result = torch.kron(result, _line_mask(*settings))
    return result


@dataclass(frozen=True)
class TileCount:
    """Pairs of a tile of queries and one of keys, and pairs of a query and a key.

    Attributes:
        visited: pairs of tiles with at least one pair that is seen. full: those in which every pair is.
        tiles: all pairs of tiles.
        pairs: pairs of a query and a key that is seen. all_pairs: all pairs of a query and a key.
    """

    visited: int
    full: int
    tiles: int
    pairs: int
    all_pairs: int

    @property
    def full_share(self) -> float:
        """The share of visited tiles that need no mask."""
        return self.full / self.visited

    @property
    def speed_bound(self) -> float:
        """How many times fewer tiles are visited than by dense attention."""
        return self.tiles / self.visited

    @property
    def flop_ratio(self) -> float:
        """How many times fewer pairs are seen than in dense attention: the bound without partly masked tiles."""
        return self.all_pairs / self.pairs

    @property
    def sparsity(self) -> float:
        """The share of pairs that are not seen."""
        return 1 - self.pairs / self.all_pairs

    @property
    def block_sparse(self) -> bool:
        """Whether no visited tile is partly masked."""
        return self.full == self.visited


def tile_count(
    grid: int | Sequence[int],
    window_size: int | Sequence[int],
    query_tile: int | Sequence[int],
    key_tile: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    causal: bool | Sequence[bool] = False,
) -> TileCount:
    """The tiles that a block-sparse kernel visits for a neighbourhood, when tokens are ordered by tiles.

    Along each dimension, a tile of queries visits the tiles of keys that the union of its windows meets, and those
    inside the intersection are full; counts multiply over dimensions. With a dilation, tiles lie within a residue class
    (NATTEN orders tokens so). A tile at the end of a dimension may be shorter.

    Args:
        grid, window_size, stride, dilation, causal: as in `mask`.
        query_tile, key_tile: positions of a tile along each dimension, or one for all.

    Raises:
        UsageError: a window that does not fit, or another number of dimensions.

    Examples:
        >>> from workbench.attention.cost.tiles import tile_count
        >>> count = tile_count((256, 256), (80, 80), (16, 16), (16, 8))
        >>> f"{count.speed_bound:.2f} of {count.flop_ratio:.2f}"
        '7.06 of 10.24'
    """
    dimensions = _dimensions(grid, window_size, stride, dilation, causal)
    queries = _each("query_tile", query_tile, len(dimensions), at_least=1)
    keys = _each("key_tile", key_tile, len(dimensions), at_least=1)
    lines = [_along(*settings, *tile) for settings, *tile in zip(dimensions, queries, keys, strict=True)]
    return TileCount(*(math.prod(counts) for counts in zip(*lines, strict=True)))


def _along(
    n: int, size: int, stride: int, dilation: int, causal: bool, query_tile: int, key_tile: int
) -> tuple[int, int, int, int, int]:
    """The counts of `TileCount` along one dimension."""
    first, last = window(n, size, stride, dilation, causal)
    visited = full = 0
    for residue in range(min(dilation, n)):
        starts, ends = first[residue::dilation] // dilation, last[residue::dilation] // dilation
        count = len(starts)
        lowest, highest = _per_tile(starts, query_tile), _per_tile(ends, query_tile)
        visited += int((highest[1] // key_tile - lowest[0] // key_tile + 1).sum())
        # Windows of one tile overlap or adjoin (the stride is at most the window), so their union has no gaps.
        begins = -(-lowest[1] // key_tile)
        stops = torch.where(highest[0] == count - 1, -(-count // key_tile), (highest[0] + 1) // key_tile)
        full += int((stops - begins).clamp(min=0).sum())
    tiles = -(-n // query_tile) * -(-n // key_tile)
    return visited, full, tiles, int(((last - first) // dilation + 1).sum()), n * n


def _per_tile(values: Tensor, tile: int) -> tuple[Tensor, Tensor]:
    """The smallest and the largest of each tile; the last tile may be shorter."""
    filled = torch.cat([values, values[-1:].expand(-len(values) % tile)]).view(-1, tile)
    return filled.amin(1), filled.amax(1)


def _line_mask(n: int, size: int, stride: int, dilation: int, causal: bool) -> Bool[Tensor, "n n"]:
    first, last = (bound[:, None] for bound in window(n, size, stride, dilation, causal))
    key = torch.arange(n)
    return (key >= first) & (key <= last) & ((key - first) % dilation == 0)


def _dimensions(grid: Any, size: Any, stride: Any, dilation: Any, causal: Any) -> list[tuple[int, int, int, int, bool]]:
    """The checked arguments of `window`, for each dimension."""
    sizes = (grid,) if isinstance(grid, int) else sequence("grid", grid, "the size of each dimension")
    if not sizes:
        raise refusal("grid", grid, "at least one dimension")
    columns = [
        _each(name, value, len(sizes)) for name, value in (("size", size), ("stride", stride), ("dilation", dilation))
    ]
    return [_checked(*settings) for settings in zip(sizes, *columns, _each("causal", causal, len(sizes)), strict=True)]


def _each(name: str, value: Any, count: int, at_least: int | None = None) -> tuple[Any, ...]:
    """One value for each dimension."""
    values = sequence(name, value, f"{count} values") if isinstance(value, Sequence) else (value,) * count
    if len(values) != count:
        raise refusal(name, value, f"one value, or {count}", because=f"the grid has {count} dimensions")
    return values if at_least is None else tuple(whole_number(name, entry, at_least=at_least) for entry in values)


def _checked(n: Any, size: Any, stride: Any, dilation: Any, causal: Any) -> tuple[int, int, int, int, bool]:
    n, dilation = whole_number("n", n, at_least=1), whole_number("dilation", dilation, at_least=1)
    size = whole_number("size", size, at_least=-1)
    if size == -1 and dilation == 1:
        size = n
    if not 1 <= size <= n // dilation:
        do = (
            "Choose a smaller window or dilation."
            if size > 1
            else "Give the number of keys, or -1 for all (without a dilation)."
        )
        raise refusal(
            "size", size, f"a window from 1 to {n // dilation}", do, because=f"size · dilation is at most n={n}"
        )
    stride = whole_number("stride", stride, at_least=1, at_most=size)
    return n, size, stride, dilation, flag("causal", causal)
