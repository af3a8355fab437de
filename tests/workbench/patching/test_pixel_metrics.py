"""Numbers of images, on bars whose width, lean and symmetry are known, and against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from workbench.errors import UsageError
from workbench.patching.image_metrics import grey
from workbench.patching.metric import Example
from workbench.registry import METRICS


def bar(width: int, lean: float = 0.0, side: int = 64, black: float = -1.0, white: float = 1.0) -> Tensor:
    """A bar from top to bottom, leaning to the right by `lean` columns a row."""
    rows, columns = np.arange(side)[:, None], np.arange(side)[None]
    centre = side / 2 - 0.5 - lean * (rows - side / 2 + 0.5)
    return torch.tensor(np.where(np.abs(columns - centre) <= width / 2, white, black), dtype=torch.float64)


def measured(name: str, *images: Tensor, reference: Tensor | None = None) -> list[float]:
    example = Example(0, (), (), (), None if reference is None else reference.flatten())
    return METRICS[name](torch.stack(images).flatten(1), example).tolist()


@pytest.mark.parametrize("width", [2, 4, 8])
def test_a_bar_is_as_thick_as_it_is_wide(width: int) -> None:
    thickness = measured("stroke_thickness", bar(width), bar(width, black=0.3, white=0.7))
    assert thickness == pytest.approx([width * 64 / (64 + width)] * 2)  # its ends count as perimeter
    assert measured("stroke_thickness", bar(2 * width))[0] > 1.5 * thickness[0]


@pytest.mark.parametrize("lean", [-0.4, 0.0, 0.25])
def test_a_bar_leans_as_far_as_it_does(lean: float) -> None:
    assert measured("slant", bar(6, lean), bar(6, lean, black=0)) == pytest.approx(
        [math.degrees(math.atan(lean))] * 2, abs=0.7
    )


def test_symmetry_and_contrast() -> None:
    random = torch.randn(16, 16, dtype=torch.float64)
    expected = np.corrcoef(random.numpy().ravel(), random.numpy()[:, ::-1].ravel())[0, 1]
    assert measured("symmetry", random) == pytest.approx([expected])
    assert measured("symmetry", random + random.flip(1), random - random.flip(1)) == pytest.approx([1, -1])
    assert measured("contrast", random) == pytest.approx([float(np.std(random.numpy()))])
    assert all(map(math.isnan, measured("symmetry", torch.ones(4, 4)) + measured("slant", torch.ones(4, 4))))


def test_the_distance_is_from_the_clean_image() -> None:
    clean, edited = torch.zeros(8, 8), torch.full((8, 8), 3.0)
    assert measured("image_distance", edited, clean, reference=clean) == [3, 0]


def test_colours_are_averaged_and_what_is_no_image_is_refused() -> None:
    colours = torch.randn(2, 3, 5, 5)
    assert torch.allclose(grey(colours.flatten(1)), colours.mean(1))
    with pytest.raises(UsageError, match="An image of 10 numbers: expected a square one of one or three channels"):
        grey(torch.zeros(2, 10))
