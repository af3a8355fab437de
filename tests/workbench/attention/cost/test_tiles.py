"""Windows and tiles of neighbourhood attention, against NATTEN's published lists and runs, and against whole masks."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch

from workbench.attention.cost.tiles import TileCount, mask, tile_count, window
from workbench.errors import UsageError


def spans(n: int, *settings: int, causal: bool = False) -> str:
    """``0-2 0-2 1-3``."""
    first, last = window(n, *settings, causal=causal)
    return " ".join(f"{a}-{b}" for a, b in zip(first.tolist(), last.tolist(), strict=True))


@pytest.mark.parametrize(
    ("settings", "causal", "expected"),
    [
        ((8, 3), False, "0-2 0-2 1-3 2-4 3-5 4-6 5-7 5-7"),
        ((8, 4), False, "0-3 0-3 0-3 1-4 2-5 3-6 4-7 4-7"),
        ((8, 4, 2), False, "0-3 0-3 1-4 1-4 3-6 3-6 4-7 4-7"),
        ((8, 4, 4), False, "0-3 0-3 0-3 0-3 4-7 4-7 4-7 4-7"),
        ((8, 4, 2), True, "0-0 0-1 0-2 0-3 2-4 2-5 4-6 4-7"),
        ((10, 4, 4), False, "0-3 0-3 0-3 0-3 4-7 4-7 4-7 4-7 6-9 6-9"),
        ((10, 4, 3), False, "0-3 0-3 0-3 2-5 2-5 2-5 5-8 5-8 5-8 6-9"),
    ],
)
def test_the_published_windows(settings, causal, expected):
    assert spans(*settings, causal=causal) == expected


def test_the_published_dilated_rows():
    rows = mask(9, 3, dilation=2)
    assert [rows[i].nonzero().flatten().tolist() for i in (0, 1, 7, 8)] == [[0, 2, 4], [1, 3, 5], [3, 5, 7], [4, 6, 8]]


def natten(n: int, size: int, stride: int, dilation: int, causal: bool) -> torch.Tensor:
    """The same mask pair by pair, as NATTEN's flex back end says it (``single_dim_tiling_mask``)."""
    rows = torch.zeros(n, n, dtype=torch.bool)
    for query, key in itertools.product(range(n), repeat=2):
        if query % dilation != key % dilation:
            continue
        count = n // dilation + (1 if query % dilation < n % dilation else 0)
        at, other = query // dilation, key // dilation
        if causal:
            leader = min(at // stride * stride + stride - 1, count - 1)
            rows[query, key] = at >= other and leader - other < size
        else:
            left, right = size // 2, size // 2 + (size % 2 - 1)
            leader = min(at // stride * stride + stride // 2, count - 1)
            centre = min(max(leader, left), count - 1 - right)
            rows[query, key] = 0 <= centre - other <= left or 0 <= other - centre <= right
    return rows


def line_settings(longest: int) -> list[tuple[int, int, int, int, bool]]:
    return [
        (n, size, stride, dilation, causal)
        for n in range(1, longest + 1)
        for size in range(1, n + 1)
        for stride in range(1, size + 1)
        for dilation in range(1, n // size + 1)
        for causal in (False, True)
    ]


def test_windows_are_nattens_pair_by_pair():
    for settings in line_settings(9):
        assert torch.equal(mask(*settings), natten(*settings)), settings


def random_grids(count: int) -> list[tuple[Any, ...]]:
    rng = random.Random(0)
    grids = []
    for _ in range(count):
        grid = tuple(rng.randint(1, 7) for _ in range(rng.choice((2, 3))))
        dilation = tuple(rng.randint(1, max(1, n // 2)) for n in grid)
        size = tuple(rng.randint(1, n // d) for n, d in zip(grid, dilation, strict=True))
        stride = tuple(rng.randint(1, w) for w in size)
        grids.append((grid, size, stride, dilation, tuple(rng.random() < 0.4 for _ in grid)))
    return grids


def test_dimensions_combine_by_and():
    for grid, size, stride, dilation, causal in random_grids(40):
        lines = [natten(*line) for line in zip(grid, size, stride, dilation, causal, strict=True)]
        places = list(itertools.product(*map(range, grid)))
        expected = [[all(line[a, b] for line, a, b in zip(lines, q, k, strict=True)) for k in places] for q in places]
        assert torch.equal(mask(grid, size, stride, dilation, causal), torch.tensor(expected))


def test_limits_of_a_window():
    n = 12
    block = torch.block_diag(*[torch.ones(4, 4)] * 3).bool()
    position = torch.arange(n)
    gap = position[:, None] - position
    assert mask(n, n).all() and mask(n, -1).all()
    assert torch.equal(mask(n, 4, 4), block)
    assert torch.equal(mask(n, 4, 4, causal=True), block.tril())
    assert torch.equal(mask(n, 4, causal=True), (gap >= 0) & (gap < 4))
    assert torch.equal(mask(n, 4, dilation=3), gap % 3 == 0)
    assert torch.equal(mask(n, 1), torch.eye(n, dtype=torch.bool))
    for size, stride in ((5, 1), (5, 3), (6, 4)):
        assert (mask((n, 9), size, stride).sum(1) == size**2).all()


def shared_input(heads: int, length: int, width: int) -> list[torch.Tensor]:
    """R(H, T, D) of the reference."""
    n = torch.arange(heads * length * width, dtype=torch.float64)
    return [
        x.view(heads, length, width) for x in (torch.sin(0.9 * n + 0.1), torch.sin(1.7 * n + 0.5), torch.cos(0.6 * n))
    ]


@pytest.mark.parametrize(
    ("settings", "causal", "total"),
    [
        ((3, 1, 1), False, 0.943225),
        ((4, 2, 1), False, -4.872855),
        ((4, 4, 1), False, 1.15411),
        ((4, 2, 1), True, 4.330314),
        ((3, 1, 2), False, 13.497738),
        ((8, 1, 1), False, 1.368245),
    ],
)
def test_the_published_sums_in_one_dimension(settings, causal, total):
    q, k, v = shared_input(2, 8, 4)
    z = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask(8, *settings, causal=causal))
    assert z.sum().item() == pytest.approx(total, abs=1e-6)


def test_the_published_values_in_two_dimensions():
    q, k, v = shared_input(1, 16, 4)
    z = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask((4, 4), 3))
    assert z.sum().item() == pytest.approx(-0.217421, abs=1e-6)
    assert z[0, 5].tolist() == pytest.approx([0.077411, 0.010293, -0.06042, -0.110027], abs=1e-6)
    z = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask((4, 4), 2, 2))
    assert z.sum().item() == pytest.approx(2.510596, abs=1e-6)


FLUX, HUNYUAN = ((256, 256), (80, 80)), ((30, 48, 80), (18, 24, 24))


@pytest.mark.parametrize(
    ("neighbourhood", "tiles", "stride", "bound", "full", "flops"),
    [
        ((32768, 2048), (256, 128), 1, 14.32, 0.79, 16),
        ((32768, 2048), (256, 128), 256, 16.0, 1, 16),
        (FLUX, ((16, 16), (16, 8)), 1, 7.06, 0.43, 10.24),
        (FLUX, ((16, 16), (16, 8)), (16, 16), 10.24, 1, 10.24),
        (FLUX, ((16, 8), (16, 8)), 1, 7.51, 0.50, 10.24),
        (FLUX, ((16, 8), (16, 8)), 16, 10.24, 1, 10.24),
        (HUNYUAN, ((4, 8, 8), (2, 8, 8)), 1, 5.24, 0.15, 11.11),
        (HUNYUAN, ((4, 8, 8), (2, 8, 8)), (16, 8, 8), 11.11, 1, 11.11),
    ],
)
def test_the_table_of_published_runs(neighbourhood, tiles, stride, bound, full, flops):
    (grid, size), (query_tile, key_tile) = neighbourhood, tiles
    count = tile_count(grid, size, query_tile, key_tile, stride)
    assert count.speed_bound == pytest.approx(bound, abs=0.005)
    assert count.full_share == pytest.approx(full, abs=0.005)
    assert count.flop_ratio == pytest.approx(flops, abs=0.005)
    assert count.block_sparse == (full == 1)


@pytest.mark.parametrize(
    ("size", "stride", "dilation", "sparsity"),
    [
        ((4, 16), 1, (11, 5), 98.2),
        ((12, 16), (4, 1), (1, 5), 94.5),
        ((12, 24), (4, 8), 1, 91.8),
        ((20, 40), 1, 1, 77.3),
        ((28, 56), 1, 1, 55.5),
    ],
)
def test_the_sparsity_of_the_cosmos_presets(size, stride, dilation, sparsity):
    count = tile_count((3, 44, 80), (-1, *size), 4, 4, _with_first(stride), _with_first(dilation))
    assert 100 * count.sparsity == pytest.approx(sparsity, abs=0.05)


def _with_first(values: int | tuple[int, int]) -> tuple[int, int, int]:
    return (1, values, values) if isinstance(values, int) else (1, *values)


def by_residue(n: int, dilation: int, tile: int) -> list[list[int]]:
    """The positions of each tile."""
    classes = [list(range(residue, n, dilation)) for residue in range(min(dilation, n))]
    return [line[at : at + tile] for line in classes for at in range(0, len(line), tile)]


def counted(seen: torch.Tensor, queries: list[list[int]], keys: list[list[int]]) -> tuple[int, int]:
    """Tiles with any pair that is seen, and with all."""
    tiles = [seen[q][:, k] for q in queries for k in keys]
    return sum(bool(tile.any()) for tile in tiles), sum(bool(tile.all()) for tile in tiles)


def test_tiles_are_those_of_the_mask_in_one_dimension():
    rng = random.Random(1)
    for settings in rng.sample(line_settings(13), 250):
        n, dilation = settings[0], settings[3]
        query_tile, key_tile = rng.randint(1, 6), rng.randint(1, 6)
        n, size, stride, dilation, causal = settings
        count = tile_count(n, size, query_tile, key_tile, stride, dilation, causal)
        seen = mask(*settings)
        expected = counted(seen, by_residue(n, dilation, query_tile), by_residue(n, dilation, key_tile))
        assert (count.visited, count.full) == expected, (settings, query_tile, key_tile)
        assert (count.pairs, count.all_pairs) == (int(seen.sum()), n * n)


def test_tiles_are_those_of_the_mask_on_a_grid():
    rng = random.Random(2)
    for grid, size, stride, dilation, causal in random_grids(25):
        query_tile, key_tile = (tuple(rng.randint(1, 4) for _ in grid) for _ in range(2))
        count = tile_count(grid, size, query_tile, key_tile, stride, dilation, causal)
        tiles = []
        for tile in (query_tile, key_tile):
            lines = [by_residue(*line) for line in zip(grid, dilation, tile, strict=True)]
            boxes = [list(itertools.product(*box)) for box in itertools.product(*lines)]
            tiles.append([[_raster(place, grid) for place in box] for box in boxes])
        seen = mask(grid, size, stride, dilation, causal)
        assert (count.visited, count.full) == counted(seen, *tiles)
        assert count.pairs == int(seen.sum())


def _raster(place: tuple[int, ...], grid: tuple[int, ...]) -> int:
    index = 0
    for at, n in zip(place, grid, strict=True):
        index = index * n + at
    return index


def test_windows_on_the_tiles_borders_are_fully_block_sparse():
    for n, size, stride, key_tile in ((64, 24, 8, 8), (64, 32, 16, 8), (96, 48, 16, 16)):
        assert (size - stride) // 2 % key_tile == (n - size) % key_tile == 0
        assert tile_count(n, size, stride, key_tile, stride).block_sparse
        assert not tile_count(n, size, stride, key_tile, 1).block_sparse


def test_everything_seen_is_every_tile():
    assert tile_count((12, 8), -1, (4, 2), (3, 8)) == TileCount(48, 48, 48, 96**2, 96**2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 9), "size=9: expected a window from 1 to 8"),
        ((8, 0), "size=0: expected a window from 1 to 8"),
        ((8, 3, 4), "stride=4: expected a whole number from 1 to 3"),
        ((8, 3, 1, 3), "size=3: expected a window from 1 to 2"),
        ((8, -1, 1, 2), "size=-1: expected a window from 1 to 4"),
        (((8, 8), (3, 3, 3)), r"size=\(3, 3, 3\): expected one value, or 2, because the grid has 2 dimensions"),
        (((), 3), "expected at least one dimension"),
        ((8, 3, 1, 1, 1), "causal=1: expected True or False"),
    ],
)
def test_a_window_that_does_not_fit_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        mask(*arguments)
