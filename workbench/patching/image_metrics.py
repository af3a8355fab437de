"""Numbers of images, for metrics that read pixels.

An image's *mass* is how far each pixel is above its darkest one, so that no number here depends on where black lies.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import UsageError

Grey = Float[Tensor, "row height width"]


def grey(pixels: Float[Tensor, "row n"]) -> Grey:
    """Square images of one channel, or the mean of three, from rows ``[channel · height · width]``.

    Raises:
        UsageError: as many numbers as no such image has.
    """
    n = pixels.shape[1]
    for channels in (1, 3):
        side = math.isqrt(n // channels)
        if channels * side * side == n:
            return pixels.unflatten(1, (channels, side, side)).mean(1)
    raise UsageError(f"An image of {n} numbers: expected a square one of one or three channels.")


def mass(image: Grey) -> Grey:
    """How far each pixel is above the darkest."""
    return image - image.amin((1, 2), keepdim=True)


def contrast(image: Grey) -> Float[Tensor, "row"]:
    """The standard deviation of its pixels."""
    return image.std((1, 2), correction=0)


def slant(image: Grey) -> Float[Tensor, "row"]:
    """The angle by which it leans to the right, in degrees: ``atan(−μ_xy / μ_yy)`` with the second moments of its mass,
    y downwards. NaN for an image of one grey value or one row."""
    weights = mass(image)
    total = weights.sum((1, 2), keepdim=True)
    y = torch.arange(image.shape[1], device=image.device, dtype=image.dtype)[None, :, None]
    x = torch.arange(image.shape[2], device=image.device, dtype=image.dtype)[None, None]
    y = y - (weights * y).sum((1, 2), keepdim=True) / total
    x = x - (weights * x).sum((1, 2), keepdim=True) / total
    return torch.rad2deg(torch.atan(-(weights * x * y).sum((1, 2)) / (weights * y * y).sum((1, 2))))


def stroke_thickness(image: Grey) -> Float[Tensor, "row"]:
    """``2 · area / perimeter`` in pixels, where the area is the sum of its mass, and the perimeter the sum of the steps
    between neighbours, that to a border of mass 0 among them: of a long bar its width. NaN for one grey value."""
    framed = torch.nn.functional.pad(mass(image), (1, 1, 1, 1))
    perimeter = framed.diff(dim=1).abs().sum((1, 2)) + framed.diff(dim=2).abs().sum((1, 2))
    return 2 * framed.sum((1, 2)) / perimeter


def symmetry(image: Grey) -> Float[Tensor, "row"]:
    """The correlation of its pixels with those of its mirror image, left and right exchanged: 1 where they are the
    same. NaN for one grey value."""
    centred = image - image.mean((1, 2), keepdim=True)
    return (centred * centred.flip(2)).sum((1, 2)) / centred.square().sum((1, 2))


def distance(pixels: Float[Tensor, "row n"], reference: Float[Tensor, "n"]) -> Float[Tensor, "row"]:
    """The root mean square difference of the pixels."""
    return (pixels - reference).square().mean(1).sqrt()
