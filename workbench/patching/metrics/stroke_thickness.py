"""Twice the image's area over its perimeter: of a long bar its width."""

from torch import Tensor

from workbench.patching.image_metrics import grey, stroke_thickness
from workbench.patching.metric import Columns, Example, Metric


def score(pixels: Tensor, example: Example, columns: Columns) -> Tensor:
    return stroke_thickness(grey(pixels))


metric = Metric("stroke_thickness", "pixels", score, answers=False, reads="pixels")
