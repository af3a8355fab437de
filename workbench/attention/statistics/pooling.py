"""Means over blocks of positions, with the bins of torch's ``adaptive_avg_pool2d``."""

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
