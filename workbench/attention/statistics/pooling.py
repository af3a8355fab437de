"""Pooling over blocks of positions: means, with the bins of torch's ``adaptive_avg_pool2d``, and the largest weight."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def bin_weights(length: int, bins: int, like: Tensor) -> Float[Tensor, "bin pos"]:
    """What each position counts in the mean of each bin: bin i has the positions from ``⌊i · length / bins⌋`` to
    ``⌈(i + 1) · length / bins⌉``; the identity where there are no more positions than bins."""
    if length <= bins:
        return torch.eye(length, dtype=like.dtype, device=like.device)
    number = torch.arange(bins, device=like.device)
    first, end = number * length // bins, -(-(number + 1) * length // bins)
    position = torch.arange(length, device=like.device)
    inside = (position >= first[:, None]) & (position < end[:, None])
    return inside.to(like.dtype) / (end - first)[:, None]


def block_maxima(
    x: Float[Tensor, "*batch row column"], block: int, row: int = 0, column: int = 0
) -> Float[Tensor, "*batch row_block column_block"]:
    """The largest of each block of ``block × block`` entries, none of them negative; the first and last blocks may be
    smaller. The first row and column of `x` are the `row`-th and the `column`-th of the whole."""
    columns = _padded(x, block, column, -1).unflatten(-1, (-1, block)).amax(-1)
    return _padded(columns, block, row, -2).unflatten(-2, (-1, block)).amax(-2)


def _padded(x: Tensor, block: int, first: int, dim: int) -> Tensor:
    """Whole blocks, with zeros where `x` begins or ends within one."""
    before, after = first % block, -(first + x.shape[dim]) % block
    sides = (before, after) if dim == -1 else (0, 0, before, after)
    return torch.nn.functional.pad(x, sides) if before or after else x
