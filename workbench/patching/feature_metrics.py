"""How alike two features are, and metrics that compare with a feature of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench import arguments
from workbench.patching.metric import Columns, Example, Metric


def cosine(features: Float[Tensor, "row feature"], to: Float[Tensor, "feature"]) -> Float[Tensor, "row"]:
    """``f · g / (‖f‖ ‖g‖)`` of each row; NaN where either is zero."""
    return (features @ to) / (features.norm(dim=-1) * to.norm())


def distance(features: Float[Tensor, "row feature"], to: Float[Tensor, "feature"]) -> Float[Tensor, "row"]:
    """``‖f − g‖₂`` of each row."""
    return (features - to).norm(dim=-1)


def cosine_to(vector: Any) -> Metric:
    """A metric: the cosine ``f · g / (‖f‖ ‖g‖)`` of the edited run's feature f and a given one, g, from −1 to 1.

    The metric ``"feature_cosine"`` compares with the clean image's own feature instead. Sweeps by this one are not
    cached.

    Args:
        vector: as many finite numbers as the model's feature has, not all of them 0.

    Raises:
        UsageError: something else; when it is used, a vector of another length than the feature.

    Examples:
        >>> import torch
        >>> wb.cosine_to(torch.ones(8)).units
        'cosine'
    """
    to = _vector(vector)
    if not bool(to.any()):
        raise arguments.refusal("vector", vector, "a vector that is not 0", because="0 has no direction")
    return Metric("cosine_to", "cosine", _comparing(cosine, to), answers=False, reads="features")


def distance_to(vector: Any) -> Metric:
    """A metric: the Euclidean distance ``‖f − g‖₂`` of the edited run's feature f from a given one, g.

    The metric ``"feature_distance"`` compares with the clean image's own feature instead. Sweeps by this one are not
    cached.

    Args:
        vector: as many finite numbers as the model's feature has.

    Raises:
        UsageError: something else; when it is used, a vector of another length than the feature.

    Examples:
        >>> import torch
        >>> wb.distance_to(torch.ones(8)).units
        'feature units'
    """
    score = _comparing(distance, _vector(vector))
    return Metric("distance_to", "feature units", score, answers=False, reads="features")


def _comparing(
    compare: Callable[[Tensor, Tensor], Tensor], to: Float[Tensor, "feature"]
) -> Callable[[Tensor, Example, Columns], Tensor]:
    def score(features: Tensor, example: Example, columns: Columns) -> Tensor:
        if len(to) != features.shape[-1]:
            raise arguments.refusal("vector", to, f"{features.shape[-1]} numbers, as many as the model's feature has")
        return compare(features, to.to(features))

    return score


def _vector(vector: Any) -> Float[Tensor, "feature"]:
    expected = "a vector of finite numbers, as long as the model's feature"
    try:
        numbers = torch.as_tensor(vector).detach()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise arguments.refusal("vector", vector, expected) from None
    to = numbers.double()
    if numbers.dtype == torch.bool or to.ndim != 1 or not len(to) or not bool(torch.isfinite(to).all()):
        raise arguments.refusal("vector", vector, expected)
    return to.clone()
