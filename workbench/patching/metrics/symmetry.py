"""The correlation of the image with its mirror image, left and right exchanged."""

from torch import Tensor

from workbench.patching.image_metrics import grey, symmetry
from workbench.patching.metric import Columns, Example, Metric


def score(pixels: Tensor, example: Example, columns: Columns) -> Tensor:
    return symmetry(grey(pixels))


metric = Metric("symmetry", "correlation", score, answers=False, reads="pixels")
