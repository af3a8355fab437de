"""Euclidean distance of the edited run's feature from the clean run's."""

from torch import Tensor

from workbench.errors import BadInput
from workbench.patching.feature_metrics import distance
from workbench.patching.metric import Columns, Example, Metric


def score(features: Tensor, example: Example, columns: Columns) -> Tensor:
    if example.reference is None:
        raise BadInput("The distance needs the clean run's feature.")
    return distance(features, example.reference)


metric = Metric("feature_distance", "feature units", score, reference=True, answers=False, reads="features")
