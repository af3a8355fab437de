"""The angle by which the image leans to the right, from its second moments."""

from torch import Tensor

from workbench.patching.image_metrics import grey, slant
from workbench.patching.metric import Columns, Example, Metric


def score(pixels: Tensor, example: Example, columns: Columns) -> Tensor:
    return slant(grey(pixels))


metric = Metric("slant", "degrees", score, answers=False, reads="pixels")
