"""What is measured of a memory that is read with the keys that it stores, a number a trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Read = Float[Tensor, "trial item d_value"]


@dataclass(frozen=True)
class Criterion:
    """A criterion.

    Attributes:
        measure: ``measure(read, values) -> [trial]``.
        scale: what it is, for axes.
        empty: what a memory has that reads 0, None where that depends on n.
        falls: whether it falls as pairs are added (a share that is right), else it grows (an error).
        d_value: the values' dimensions where the criterion needs so many.
        one_hot: whether values are the rows of an identity matrix, so that what is read is the weight of each value.
    """

    measure: Callable[[Read, Read], Float[Tensor, "trial"]]
    scale: str
    empty: float | None
    falls: bool = False
    d_value: int | None = None
    one_hot: bool = False


def mse(read: Read, values: Read) -> Float[Tensor, "trial"]:
    """``‖y − v‖²``, the mean over items."""
    return (read - values).square().sum(-1).mean(-1)


def cosine(read: Read, values: Read) -> Float[Tensor, "trial"]:
    """The cosine of y and v, the mean over items; 0 where y is 0."""
    return F.cosine_similarity(read, values, dim=-1).mean(-1)


def argmax(read: Read, values: Read) -> Float[Tensor, "trial"]:
    """The share of items whose own value has a larger product with y than every other stored value."""
    products = read @ values.mT
    own = products.diagonal(dim1=-2, dim2=-1)
    others = products.masked_fill(torch.eye(own.shape[-1], dtype=torch.bool), -torch.inf).amax(-1)
    return (own > others).to(read.dtype).mean(-1)


def sign(read: Read, values: Read) -> Float[Tensor, "trial"]:
    """The share of values ±1 that are read with the other sign; 0 counts half."""
    product = (read * values)[..., 0]
    return ((product < 0).to(read.dtype) + (product == 0).to(read.dtype) / 2).mean(-1)


def worst_case(read: Read, values: Read) -> Float[Tensor, "trial"]:
    """The largest error of a scalar over all values from −1 to 1, ``Σ_j |A_ij − δ_ij|`` with A the weights of the
    values, the mean over items."""
    return (read - values).abs().sum(-1).mean(-1)


CRITERIA: Mapping[str, Criterion] = {
    "mse": Criterion(mse, "squared error of a value of length one", 1.0),
    "cosine": Criterion(cosine, "cosine of what is read with the value", 0.0, falls=True),
    "argmax": Criterion(argmax, "share of items whose own value fits best", 0.0, falls=True),
    "sign": Criterion(sign, "share of values ±1 read with the wrong sign", 0.5, d_value=1),
    "worst case": Criterion(worst_case, "largest error over all values from −1 to 1", 1.0, one_hot=True),
}
