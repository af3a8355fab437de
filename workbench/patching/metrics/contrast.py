"""The standard deviation of the image's pixels."""

from torch import Tensor

from workbench.patching.image_metrics import contrast, grey
from workbench.patching.metric import Columns, Example, Metric


def score(pixels: Tensor, example: Example, columns: Columns) -> Tensor:
    return contrast(grey(pixels))


metric = Metric("contrast", "pixel values", score, answers=False, reads="pixels")
