"""Rotary position embedding: pairs of channels turned by an angle that grows with the position."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import UsageError


def rotated(
    x: Float[Tensor, "*rest pos d"], position: Int[Tensor, "pos"], pairs: Literal["adjacent", "halves"]
) -> Float[Tensor, "*rest pos d"]:
    """Pair i turned by ``position · 10000^(−2i/d)``; pairs are channels 2i and 2i + 1, or i and i + d/2.

    Raises:
        UsageError: d is odd.
    """
    d = x.shape[-1]
    if d % 2:
        raise UsageError(f"d_head={d}: expected an even number, because channels are rotated in pairs.")
    speed = 10000.0 ** (-torch.arange(0, d, 2, device=x.device, dtype=torch.float64) / d)
    angle = position[:, None] * speed
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = (x[..., ::2], x[..., 1::2]) if pairs == "adjacent" else x.chunk(2, -1)
    turned = a * cos - b * sin, a * sin + b * cos
    return torch.stack(turned, -1).flatten(-2) if pairs == "adjacent" else torch.cat(turned, -1)
