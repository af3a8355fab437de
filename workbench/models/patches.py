"""Images as sequences of positions: blank rows for the tokens that a model adds, then patches, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from workbench.arguments import refusal


@dataclass(frozen=True)
class Patches:
    """How a model cuts images.

    Attributes:
        size: rows and columns of pixels of a patch.
        channels: of an image.
        image: rows and columns of pixels of the image that the configuration names.
        added: how many positions come before the patches.
        any_size: whether the model takes square images of other sizes too.
    """

    size: tuple[int, int]
    channels: int
    image: tuple[int, int]
    added: int
    any_size: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches of that image. What is left over at its edges is in no patch, and not read."""
        return self.image[0] // self.size[0], self.image[1] // self.size[1]

    @property
    def width(self) -> int:
        """Numbers in a position: the pixels of a patch."""
        return self.channels * self.size[0] * self.size[1]

    def grid_of(self, n_positions: int) -> tuple[int, int] | None:
        """Rows and columns of patches of an input; None where the model has no input of that length. Of a length alone
        only the configured grid and squares can be told."""
        n = n_positions - self.added
        if n == self.grid[0] * self.grid[1]:
            return self.grid
        side = round(max(n, 0) ** 0.5)
        return (side, side) if self.any_size and side and side * side == n else None

    def expected(self) -> str:
        """What images the model takes, for messages."""
        size = f"{self.image[0]} × {self.image[1]} pixels"
        at_least = " × ".join(map(str, self.size))
        return f"{size}, or squares of another size from {at_least} on" if self.any_size else size

    def to_inputs(self, pixels: Tensor, name: str = "pixels") -> Float[Tensor, "image pos n"]:
        """Images ``[image, channel, height, width]`` as ``[image, pos, channel · row · column]``: rows of zeros, then
        the patches, row by row.

        Raises:
            UsageError: images of other sizes or channels, or numbers that are not finite.
        """
        what = f"images [image, {self.channels}, height, width] of {self.expected()}"
        if not isinstance(pixels, Tensor) or pixels.ndim != 4 or not len(pixels) or not pixels.is_floating_point():
            raise refusal(name, pixels, f"a tensor of floating-point numbers: {what}")
        (channels, height, width), (rows, columns) = pixels.shape[1:], self.size
        if channels != self.channels:
            raise refusal(name, pixels, what, because=f"these have {channels} channels")
        grid = height // rows, width // columns
        other = (height, width) != self.image and not self.any_size
        if other or self.grid_of(self.added + grid[0] * grid[1]) != grid:
            raise refusal(name, pixels, what, because=f"these have {height} × {width} pixels")
        if not bool(torch.isfinite(pixels).all()):
            raise refusal(name, pixels, "finite numbers", because="some are not")
        cut = pixels[:, :, : grid[0] * rows, : grid[1] * columns]
        patches = cut.unflatten(3, (grid[1], columns)).unflatten(2, (grid[0], rows))
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return torch.cat([patches.new_zeros(len(pixels), self.added, self.width), patches], 1)

    def to_pixels(self, inputs: Tensor) -> Shaped[Tensor, "image channel height width"]:
        """Inputs ``[image, pos, n]`` as images; what is left over at the edges of an image of the configured size is 0.

        Raises:
            UsageError: inputs that are none of this model.
        """
        grid = self.grid_of(inputs.shape[1]) if isinstance(inputs, Tensor) and inputs.ndim == 3 else None
        if grid is None or inputs.shape[2] != self.width:
            expected = f"inputs [image, position, {self.width}] of {self.expected()}"
            raise refusal("inputs", inputs, expected, "Make them with pixels_to_inputs.")
        patches = inputs[:, self.added :].unflatten(2, (self.channels, *self.size)).unflatten(1, grid)
        pixels = patches.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
        rest = [whole - part for whole, part in zip(self.image, pixels.shape[2:], strict=True)]
        if grid == self.grid and any(rest):
            return torch.nn.functional.pad(pixels, (0, rest[1], 0, rest[0]))
        return pixels


def pair(size: Any) -> tuple[int, int]:
    """A size of a configuration, one number or two, as (rows, columns)."""
    rows, columns = size if isinstance(size, Sequence) else (size, size)
    return int(rows), int(columns)
