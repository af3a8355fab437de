"""A point of a law: what trials measure, what the law says, and how far apart they may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import special

from workbench import statistics
from workbench.findings import Quantity

#: A law may be off by this share of it, or by so many standard errors of the trials' mean, whichever is more.
SHARE, ERRORS = 0.02, 3.0
#: The family of the points without an error, and the largest error that counts as none.
RECOVERED, NO_ERROR = "recovered", 1e-6

Row = dict[str, Any]


def point(
    family: str,
    samples: Float[np.ndarray, " trial"],
    expected: float,
    *,
    rule: str,
    criterion: str,
    d: int,
    n: float,
    keys: str = "random",
    varied: str = "",
    at: float = float("nan"),
    judged: bool = True,
    draws: int | None = None,
    rounding: float = 0.0,
) -> Row:
    """A row of a table: the mean over trials with its interval, what is expected, and their gap in units of the bar,
    ``max(2 % of what is expected, 3 standard errors)``.

    Args:
        family: the threshold that it belongs to.
        varied: what else was varied, with its unit, and `at` which number.
        judged: whether it takes part in the verdict.
        draws: where what is expected is itself a mean of so many trials: its error is then part of the bar.
        rounding: of what is expected, which is added to the bar.
    """
    mean, error = float(samples.mean()), standard_error(samples)
    interval = statistics.mean_interval(samples)
    both = error * np.sqrt(1 + (len(samples) / draws if draws else 0))
    bar = float(max(SHARE * abs(expected), ERRORS * both)) + rounding
    return {
        "family": family,
        "rule": rule,
        "criterion": criterion,
        "d": d,
        "n": n,
        "keys": keys,
        "varied": varied,
        "at": at,
        "trials": len(samples),
        "simulated": mean,
        "standard_error": error,
        "low": float(interval.low),
        "high": float(interval.high),
        "expected": expected,
        "gap": mean - expected,
        "bar": bar,
        "in_bars": abs(mean - expected) / bar if bar > 0 else 0.0,
        "by_chance": float(2 * special.ndtr(-bar / error)) if error > 0 else 0.0,
        "judged": judged,
    }


def standard_error(samples: Float[np.ndarray, " trial"]) -> float:
    """Of the mean over trials."""
    return float(samples.std(ddof=1) / np.sqrt(len(samples)))


def largest(rows: Iterable[Mapping[str, Any]], family: str) -> Quantity:
    """The largest gap of a family's judged points, in units of their bars; no number where there are none."""
    gaps = [row["in_bars"] for row in rows if row["family"] == family and row["judged"]]
    return Quantity.exact(max(gaps)) if gaps else Quantity(float("nan"))
