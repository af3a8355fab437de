"""Cosine of the edited run's feature and the clean run's; NaN where either is zero."""

from torch import Tensor

from workbench.errors import BadInput
from workbench.patching.feature_metrics import cosine
from workbench.patching.metric import Columns, Example, Metric


def score(features: Tensor, example: Example, columns: Columns) -> Tensor:
    if example.reference is None:
        raise BadInput("The cosine needs the clean run's feature.")
    return cosine(features, example.reference)


metric = Metric("feature_cosine", "cosine", score, reference=True, answers=False, reads="features")
