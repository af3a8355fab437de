"""How many pairs a Hebbian memory holds by three criteria, and how that grows with its dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

import workbench as wb
from workbench.findings import Quantity
from workbench.registry import imported

from .measure import LARGE, MORE

critical = imported("probes.memory.critical")

#: The limits: of an error a half, of the items half of them right.
LIMIT = 0.5
WORST, MEAN_SQUARE, ARGMAX = "worst case", "mse", "argmax"
#: Criterion → the pairs that it allows, as figures have them.
SCALINGS: Mapping[str, tuple[Callable[[int], float], str]] = {
    WORST: (lambda d: critical.worst_case_law(d, LIMIT), "½ √(π d / 2)"),
    MEAN_SQUARE: (lambda d: critical.mean_square_law(d, LIMIT), "1 + d / 2"),
    ARGMAX: (critical.argmax_scaling, "n ln n = d² / 2"),
}
#: Loads around the one at which a criterion is expected to reach its limit.
AROUND = {MEAN_SQUARE: (0.7, 0.85, 1.0, 1.15, 1.3), ARGMAX: (0.7, 0.85, 1.0, 1.15, 1.3)}
#: Trials where each has a mean over more than `MANY` items already.
MOST_TRIALS, MANY = 40, 100
RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Capacity:
    """The pairs at which a memory of d dimensions reaches a criterion's limit, with bootstrap resamples over trials."""

    criterion: str
    d: int
    trials: int
    pairs: float
    resampled: Float[np.ndarray, " resample"]

    @property
    def quantity(self) -> Quantity:
        """With its 95 % interval."""
        low, high = np.nanpercentile(self.resampled, [2.5, 97.5])
        return Quantity(self.pairs, float(low), float(high))

    @property
    def scaling(self) -> float:
        """What the criterion's law has."""
        return SCALINGS[self.criterion][0](self.d)


def capacities(dims: Sequence[int], argmax_dims: Sequence[int], trials: int, seed: int) -> Iterator[Capacity]:
    """Of each criterion at each number of dimensions."""
    for d in dims:
        yield _worst_case(d, MORE * trials if d <= LARGE else trials, seed)
    for d in dims:
        yield _crossing(MEAN_SQUARE, d, critical.mean_square_law(d, LIMIT), trials, seed)
    for d in argmax_dims:
        yield _crossing(ARGMAX, d, critical.argmax_law(d, LIMIT) * 1.1, trials, seed)


def _worst_case(d: int, trials: int, seed: int) -> Capacity:
    pairs = critical.worst_case_pairs(d, LIMIT, trials, seed)
    rng = np.random.default_rng(seed)
    resampled = pairs[rng.integers(trials, size=(RESAMPLES, trials))].mean(1)
    return Capacity(WORST, d, trials, float(pairs.mean()), resampled)


def _crossing(criterion: str, d: int, expected: float, trials: int, seed: int) -> Capacity:
    trials = min(trials, MOST_TRIALS) if expected > MANY else MORE * trials
    loads = sorted({max(2, round(share * expected)) for share in AROUND[criterion]})
    curve = wb.memory("hebbian", d=d, n=loads, trials=trials, criterion=criterion, seed=seed)
    pairs, resampled = critical.crossings(curve.loads, curve.samples, LIMIT, RESAMPLES, seed)
    return Capacity(criterion, d, trials, pairs, resampled)


def table(measured: Iterable[Capacity]) -> pd.DataFrame:
    """A row for each criterion and number of dimensions."""
    rows = []
    for each in measured:
        words = {"criterion": each.criterion, "limit": LIMIT, "d": each.d, "trials": each.trials}
        law = {"law": each.scaling, "formula": SCALINGS[each.criterion][1], "gap": each.pairs / each.scaling - 1}
        rows.append({**words, **each.quantity.columns("pairs", ""), **law})
    return pd.DataFrame(rows)


def exponent_of_law(points: Sequence[Capacity]) -> float:
    """The exponent of a criterion's law at the d of these points."""
    return float(_slopes(points, np.array([[each.scaling] for each in points]))[0])


def exponents(measured: Sequence[Capacity]) -> dict[str, Quantity]:
    """Criterion → the exponent e of ``pairs ~ d^e``, the least-squares slope on logarithmic axes, with its interval."""
    result = {}
    for criterion in SCALINGS:
        points = [each for each in measured if each.criterion == criterion]
        slopes = _slopes(points, np.array([[each.pairs, *each.resampled] for each in points]))
        low, high = np.nanpercentile(slopes[1:], [2.5, 97.5])
        result[criterion] = Quantity(float(slopes[0]), float(low), float(high))
    return result


def _slopes(points: Sequence[Capacity], pairs: Float[np.ndarray, "point sample"]) -> Float[np.ndarray, " sample"]:
    """Least-squares slopes of log pairs over log d."""
    x, y = np.log([each.d for each in points]), np.log(pairs)
    return (x - x.mean()) @ (y - y.mean(0)) / ((x - x.mean()) ** 2).sum()
