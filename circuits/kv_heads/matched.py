"""Heads with a role against the other heads of their layers, at the same share of attention to the sink.

With x the quantity of each head, s its sink share and r its role (0 or 1), all less the mean of the layer::

    x = a s − b r + e

The *advantage* b says how far x lies below that of the layer's other heads at the same sink share. Its null: the
residuals of ``x = a s`` are permuted within the layers, and b is taken again (Freedman & Lane, *Journal of Business &
Economic Statistics* 1, 1983); exact where s plays no part, else for many heads. Its interval: the residuals e of the
whole model are permuted instead (ter Braak 1992).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

from workbench.findings import Quantity

#: Heads that are compared with each other, at least.
TOGETHER_AT_LEAST = 3
#: Permutations, and how many of them are held at once.
DRAWS, TOGETHER = 9999, 1111
#: A role with fewer heads that have others in their layer is not tested.
FEWEST_HEADS = 3
#: Statistics within this of the observed one count as equal (rounding).
TIE = 1e-9

OfKeyValueHeads = Float[np.ndarray, "layer kv_head"]


@dataclass(frozen=True)
class Matched:
    """A role's advantage.

    Attributes:
        advantage: b, with an interval whose two ends are one-sided 95 % bounds, corrected for the number of tests.
        null_95: the 95th percentile of b under the null.
        p_value: one-sided, not corrected over the roles.
        heads, others: how many heads have the role and how many are without it, in layers that have both.
    """

    advantage: Quantity
    null_95: float
    p_value: float
    heads: int
    others: int


def layers_together(n_kv_heads: int) -> int:
    """How many neighbouring layers are taken for one, so that a head has others to be compared with: one, unless a
    layer has fewer than three key/value heads."""
    return -(-TOGETHER_AT_LEAST // n_kv_heads)


def blocks(x: Shaped[np.ndarray, "layer kv_head"]) -> Shaped[np.ndarray, "block head"]:
    """The same with neighbouring layers together (`layers_together`); lowest layers that are left over are left out."""
    together = layers_together(x.shape[1])
    n_blocks = len(x) // together
    return x[len(x) - n_blocks * together :].reshape(n_blocks, -1)


def in_both(role: Bool[np.ndarray, "layer kv_head"]) -> tuple[int, int]:
    """How many heads have the role and how many do not, in layers that have both."""
    count, size = role.sum(1), role.shape[1]
    mixed = (count > 0) & (count < size)
    return int(count[mixed].sum()), int((size - count[mixed]).sum())


def is_testable(role: Bool[np.ndarray, "layer kv_head"]) -> bool:
    """Whether enough heads with the role have others in their layer."""
    return in_both(role)[0] >= FEWEST_HEADS


def not_tested(role: Bool[np.ndarray, "layer kv_head"]) -> Matched:
    """Of a role with too few heads, or none with others in their layer."""
    nothing = float("nan")
    return Matched(Quantity(nothing), nothing, nothing, *in_both(role))


def advantage(
    x: OfKeyValueHeads,
    role: Bool[np.ndarray, "layer kv_head"],
    sink: OfKeyValueHeads,
    *,
    tests: int = 1,
    seed: int = 0,
    draws: int = DRAWS,
) -> Matched:
    """How far x of the heads with the role lies below that of their layers' other heads.

    Args:
        x: in the unit of the result.
        tests: how many roles are tested, for the interval.
    """
    s = _within(sink)
    r = _without(_within(role.astype(float)), s)
    residual = _without(_within(x), s)
    norm = float((r * r).sum())
    if norm < TIE or not np.isfinite(residual).all():
        return not_tested(role)
    observed = -float((r * residual).sum()) / norm
    null = _permuted(residual, r, draws, seed)
    around = _permuted(residual + observed * r, r, draws, seed + 1)
    low, high = observed - np.quantile(around, [1 - 0.05 / tests, 0.05 / tests])
    reached = int((null >= observed - TIE * max(1.0, abs(observed))).sum())
    return Matched(
        Quantity(observed, float(low), float(high)),
        float(np.quantile(null, 0.95)),
        (reached + 1) / (draws + 1),
        *in_both(role),
    )


def _within(x: OfKeyValueHeads) -> OfKeyValueHeads:
    """Less the mean of the layer."""
    return x - x.mean(1, keepdims=True)


def _without(x: OfKeyValueHeads, s: OfKeyValueHeads) -> OfKeyValueHeads:
    """What is left of x after its regression on s."""
    size = float((s * s).sum())
    return x - (float((x * s).sum()) / size) * s if size > TIE else x


def _permuted(residual: OfKeyValueHeads, r: OfKeyValueHeads, draws: int, seed: int) -> Float[np.ndarray, " draw"]:
    """b with the residuals permuted within the layers. r has no part of layer and sink left, so that neither has to be
    taken out of them again."""
    rng, results = np.random.default_rng(seed), []
    for start in range(0, draws, TOGETHER):
        many = np.broadcast_to(residual, (min(TOGETHER, draws - start), *residual.shape))
        results.append(-(rng.permuted(many, axis=-1) * r).sum((1, 2)) / (r * r).sum())
    return np.concatenate(results)
