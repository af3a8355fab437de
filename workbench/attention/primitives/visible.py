"""What each destination may see."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from workbench.attention.call import Call


def positions(dest: int, src: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The destinations' positions, ``[dest, 1]``, the last of the sources, and the sources', ``[src]``."""
    source = torch.arange(src, device=device)
    return source[src - dest :, None], source


def causal(dest: int, src: int, device: torch.device) -> Bool[Tensor, "1 1 dest src"]:
    """Itself and earlier ones."""
    destination, source = positions(dest, src, device)
    return (source <= destination)[None, None]


def visible(call: Call, dest: int, src: int, device: torch.device) -> Bool[Tensor, "batch_or_1 head_or_1 dest src"]:
    """What the model lets each destination see: its mask, or causality and padding."""
    if call.visible is not None:
        return call.visible
    mask = causal(dest, src, device) if call.causal else torch.ones(1, 1, dest, src, dtype=torch.bool, device=device)
    return mask if call.padding is None else mask & call.padding[:, None, None, :]


def without_padding(x: Float[Tensor, "batch head src d"], call: Call) -> Float[Tensor, "batch head src d"]:
    """Keys, features of keys or values, 0 where there is padding. Mask *features*: ``elu(0) + 1`` is 1."""
    return x if call.padding is None else x * call.padding[:, None, :, None].to(x.dtype)


def around_grid(mask: Bool[Tensor, "*rest n n"], before: int) -> Bool[Tensor, "*rest src src"]:
    """A mask of grid positions with those ahead of the grid: they see everything, and everything sees them."""
    return torch.nn.functional.pad(mask, (before, 0, before, 0), value=True)


def places(
    call: Call, src: int, device: torch.device
) -> tuple[Int[Tensor, "batch_or_1 src"], Int[Tensor, "batch_or_1 1"]]:
    """Each position's place among those that hold something, and how many do; padding's places mean nothing."""
    if call.padding is None:
        return torch.arange(src, device=device)[None], torch.full((1, 1), src, device=device)
    place = call.padding.long().cumsum(1) - 1
    return place.clamp(min=0), place[:, -1:] + 1


def rows(x: Shaped[Tensor, "batch_or_1 src"], dest: int) -> tuple[Tensor, Tensor]:
    """What belongs to each position as that of destinations and of sources, for comparing them in a mask:
    ``[batch_or_1, 1, dest, 1]`` and ``[batch_or_1, 1, 1, src]``."""
    return x[:, None, x.shape[1] - dest :, None], x[:, None, None, :]
