"""Blocks of positions: means, orders on a grid, ranks with ties."""

import pytest
import torch

from workbench.attention.primitives.blocks import Blocks, ranks, require_whole, top
from workbench.errors import UsageError

CPU = torch.device("cpu")


def test_means_of_a_ragged_last_block():
    x = torch.arange(10.0).view(1, 1, 5, 2)
    assert Blocks.even(5, 2, CPU).means(x)[0, 0].tolist() == [[1, 2], [5, 6], [8, 9]]


def test_means_leave_padding_out():
    x = torch.tensor([1.0, 2, 4, 8, 16]).view(1, 1, 5, 1)
    padding = torch.tensor([[False, True, False, False, True]])
    blocks = Blocks.even(5, 2, CPU)
    assert blocks.means(x, padding).flatten().tolist() == [2, 0, 16]
    assert blocks.occupied(padding).tolist() == [[True, False, True]]


def test_means_of_bfloat16_are_in_float32():
    x = torch.ones(1, 1, 4, 1, dtype=torch.bfloat16)
    assert Blocks.even(4, 2, CPU).means(x).dtype == torch.float32


def test_orders_of_a_video():
    """As VMoBA's code lays out a 4 × 4 × 4 grid: (columns, then cubes of 2)."""
    columns = Blocks.on_grid((4, 4, 4), (1, 2, 2), CPU)
    assert columns.order[:18].tolist() == [0, 1, 4, 5, 16, 17, 20, 21, 32, 33, 36, 37, 48, 49, 52, 53, 2, 3]
    cubes = Blocks.on_grid((4, 4, 4), (2, 2, 2), CPU)
    assert cubes.order[:10].tolist() == [0, 1, 4, 5, 16, 17, 20, 21, 2, 3]
    assert cubes.count == 8 and cubes.sizes.tolist() == [8] * 8 and not cubes.in_order


def test_sizes_that_the_counts_do_not_divide():
    blocks = Blocks.on_grid((5, 3), (2, 7), CPU)
    assert blocks.count == 6 and blocks.sizes.tolist() == [3, 3, 3, 2, 2, 2]
    assert blocks.first.tolist() == [0, 1, 2, 9, 10, 11] and blocks.last.tolist() == [6, 7, 8, 12, 13, 14]


def test_positions_ahead_are_a_block_of_their_own():
    blocks = Blocks.even(3, 2, CPU).behind(2)
    assert blocks.labels.tolist() == [0, 0, 1, 1, 2] and blocks.count == 3 and blocks.offsets == [0, 2, 4, 5]
    assert Blocks.even(3, 2, CPU).behind(0).labels.tolist() == [0, 0, 1]


def test_of_equal_scores_the_lowest_index_is_first():
    scores = torch.tensor([[1.0, 3, 3, 1, 3]])
    assert ranks(scores).tolist() == [[3, 0, 1, 4, 2]]
    assert top(scores, 2).tolist() == [[False, True, True, False, False]]
    assert top(scores, torch.tensor([[4]])).tolist() == [[True, True, True, False, True]]
    many = torch.zeros(1, 1000)
    assert top(many, 17).nonzero()[:, 1].tolist() == list(range(17))


def test_minus_infinity_is_never_selected():
    scores = torch.tensor([-torch.inf, 2, -torch.inf])
    assert top(scores, 3).tolist() == [False, True, False]


def test_fewer_queries_than_keys_are_refused():
    require_whole("proxy-heads", 4, 4)
    with pytest.raises(UsageError, match="q=<3 positions>: expected 4, as k has"):
        require_whole("proxy-heads", 3, 4)
