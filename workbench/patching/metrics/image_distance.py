"""The root mean square difference of the edited image's pixels from the clean run's.

So too of a video, of a latent, and of a prediction that is read in its place.
"""

from torch import Tensor

from workbench.errors import BadInput
from workbench.patching.image_metrics import distance
from workbench.patching.metric import Columns, Example, Metric


def score(pixels: Tensor, example: Example, columns: Columns) -> Tensor:
    if example.reference is None:
        raise BadInput("The distance needs the clean run's image.")
    return distance(pixels, example.reference)


metric = Metric(
    "image_distance",
    "pixel values",
    score,
    reference=True,
    answers=False,
    reads="pixels",
    also_reads=("video", "latents", "velocity", "noise"),
)
