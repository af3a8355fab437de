"""The statistics of every result: intervals by bootstrap over examples, p-values by sign flips.

All are two-sided; intervals are percentile intervals. Rows that hold a value which is not finite (heads that are no
senders) get NaN and take no part in anything. One example gives no interval: NaN, never an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

CONFIDENCE = 0.95
RESAMPLES = 1000
DRAWS = 9999

#: Rows bootstrapped at once, which bounds the memory (33 MB at 1,000 resamples). The numbers do not depend on it.
ROWS = 4096
#: Statistics of a permuted sample within this relative distance of the observed one count as equal (rounding).
TIE = 1e-9


class Interval(NamedTuple):
    low: Any
    high: Any


class RatioInterval(NamedTuple):
    low: Any
    high: Any
    gap_low: float
    gap_high: float

    @property
    def gap_holds_zero(self) -> bool:
        """Whether the denominator cannot be told from 0 (False where there is no interval)."""
        return self.gap_low <= 0 <= self.gap_high


class Correlation(NamedTuple):
    rho: float
    low: float
    high: float
    p_value: float
    n: int


def finite_rows(values: Float[np.ndarray, "*cells example"]) -> Bool[np.ndarray, "*cells"]:
    """Cells whose examples are all finite: the ones that statistics speak of."""
    return np.asarray(np.isfinite(values).all(axis=-1))


def top_count(percent: float, total: int) -> int:
    """How many of `total` heads the top `percent` % keeps: ``max(1, round(percent / 100 · total))``."""
    return max(1, round(percent / 100 * total))


def bootstrap_means(
    values: Float[np.ndarray, "*cells example"], resamples: int = RESAMPLES, seed: int = 0
) -> Float[np.ndarray, "*cells resample"]:
    """Means of `values` over examples sampled with replacement; resample ``r`` is the same sample for every cell.

    Source: Efron (1979). `scipy.stats.bootstrap` draws the examples' indices: all cells cost one matrix product.
    """
    rows, n = values.reshape(-1, values.shape[-1]), values.shape[-1]
    means, use = np.full((len(rows), resamples), np.nan), finite_rows(rows)
    if n > 1 and use.any():
        result = _bootstrap(lambda weights: rows[use] @ weights.T, n, CONFIDENCE, resamples, seed)
        means[use] = result.bootstrap_distribution
    return means.reshape(*values.shape[:-1], resamples)


def mean_interval(
    values: Float[np.ndarray, "*cells example"],
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval (two-sided) of the mean over examples, in the units of `values`.

    Source: Efron & Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13.
    """
    low, high = _intervals(values, lambda rows, weights: rows @ weights.T, confidence, resamples, seed)
    return Interval(low, high)


def ratio_interval(
    delta: Float[np.ndarray, "*cells example"],
    gap: Float[np.ndarray, " example"],
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> RatioInterval:
    """Percentile bootstrap interval (two-sided) of the ratio of means ``mean(delta) / mean(gap)``, and of its gap.

    Numerator and denominator are means over the *same* resampled examples. Where the denominator's interval holds 0
    the ratio means nothing: both of its ends are NaN (`RatioInterval.gap_holds_zero` says so).

    Source: Efron & Tibshirani (1993), chapters 10.4 (ratios) and 13 (percentiles).
    """
    gap_low, gap_high = mean_interval(gap, confidence, resamples, seed)
    none = np.full(delta.shape[:-1], np.nan)
    result = RatioInterval(none, none, float(gap_low), float(gap_high))
    if result.gap_holds_zero:
        return result

    def ratio(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (rows @ weights.T) / (weights @ gap)

    low, high = _intervals(delta, ratio, confidence, resamples, seed)
    return result._replace(low=low, high=high)


def sign_flip_max_p(
    delta: Float[np.ndarray, "cells example"], draws: int = DRAWS, seed: int = 0
) -> tuple[Float[np.ndarray, " cells"], float]:
    """Two-sided sign-flip p-values, corrected for the number of cells, and the smallest value that they could take.

    Under the null hypothesis the deltas of an example are symmetric about 0, so that all its signs may be flipped.
    The statistic of a cell is ``|Σ s·d| / sqrt(Σ d²)``, which orders flips as |t| does; p is the share of flips whose
    *largest* statistic over all cells reaches the observed one (single-step max-T: family-wise error over the cells).
    It is studentised because a plain largest |mean| would let one strong head set the bar for all others. A cell of
    zeros has p = 1. All ``2^n`` flips are enumerated when they are at most `draws` (smallest p: ``2 / 2^n``); else
    `draws` seeded random flips and the observed one are counted (smallest p: ``1 / (draws + 1)``).

    Source: Westfall & Young (1993); Nichols & Holmes, *Human Brain Mapping* 15 (2002); the +1: Phipson & Smyth (2010).
    """
    cells, n = delta.shape
    p = np.full(cells, np.nan)
    use = finite_rows(delta)
    rows = delta[use] / _norm(delta[use])
    exact = n < 63 and 2**n <= draws
    largest = np.sort(np.concatenate([_largest(rows, signs) for signs in _sign_blocks(n, draws, exact, seed)]))
    observed = np.abs(rows.sum(axis=-1))
    reached = len(largest) - np.searchsorted(largest, observed * (1 - TIE) - TIE)
    if exact:
        p[use] = reached / len(largest)
        return p, 1 / len(largest)
    p[use] = (reached + 1) / (draws + 1)
    return p, 1 / (draws + 1)


def proportion_interval(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson score interval (two-sided) of a proportion such as an accuracy; NaN for ``n = 0``.

    Source: Wilson, *JASA* 22 (1927), without continuity correction, through `scipy.stats.binomtest`.
    """
    from scipy import stats

    if n == 0:
        return Interval(float("nan"), float("nan"))
    interval = stats.binomtest(int(successes), int(n)).proportion_ci(confidence, method="wilson")
    return Interval(float(interval.low), float(interval.high))


def kl_divergence(log_p: Float[np.ndarray, " outcome"], log_q: Float[np.ndarray, " outcome"]) -> float:
    """``KL(p ‖ q) = Σ p (log p − log q)`` in nats, of the logarithms of probabilities; where rounding would make it
    negative, 0.

    An outcome that p excludes (``log p = −∞``) adds nothing, and one that q alone excludes makes it +∞. What is not a
    number stays NaN. `workbench.patching.divergence` has the same for tensors.

    Source: Cover & Thomas, *Elements of Information Theory* (2006), section 2.3, with its conventions for 0.
    """
    possible = log_p != -np.inf
    if (log_q[possible] == -np.inf).any():
        return float("nan") if np.isnan(log_p).any() or np.isnan(log_q).any() else float("inf")
    total = float((np.exp(log_p) * np.subtract(log_p, log_q, out=np.zeros_like(log_p), where=possible)).sum())
    return 0.0 if total < 0 else total


def spearman(
    x: Float[np.ndarray, "*cells"],
    y: Float[np.ndarray, "*cells"],
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Correlation:
    """Spearman's rank correlation over the cells where both are finite, with a percentile bootstrap over cells.

    The p-value is two-sided, from the t approximation of `scipy.stats.spearmanr`. Fewer than three cells, or a
    constant side, give NaN.
    """
    from scipy import stats

    use = np.isfinite(x) & np.isfinite(y)
    a, b, n = x[use], y[use], int(use.sum())
    if n < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(np.nan, np.nan, np.nan, np.nan, n)

    def rho(i: np.ndarray, axis: int) -> np.ndarray:
        ranks = (stats.rankdata(side[i], axis=axis) for side in (a, b))
        return _correlation(*ranks)

    with np.errstate(invalid="ignore"):
        resampled = stats.bootstrap(
            (np.arange(n),), rho, n_resamples=resamples, method="percentile", vectorized=True, rng=seed
        )
    low, high = np.nanquantile(resampled.bootstrap_distribution, _tails(confidence))
    result: Any = stats.spearmanr(a, b)
    return Correlation(float(result[0]), float(low), float(high), float(result[1]), n)


def _bootstrap(statistic: Callable, n: int, confidence: float, resamples: int, seed: int) -> Any:
    """scipy's bootstrap over example indices; `statistic` sees weights ``[resample, example]`` that sum to 1."""
    from scipy import stats

    def of_indices(index: Int[np.ndarray, "*resample example"], axis: int) -> np.ndarray:
        rows = index.reshape(-1, n)
        flat = rows + n * np.arange(len(rows))[:, None]
        counts = np.bincount(flat.ravel(), minlength=rows.size).reshape(rows.shape)
        return statistic((counts / n).reshape(index.shape))

    return stats.bootstrap(
        (np.arange(n),),
        of_indices,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    )


def _intervals(
    values: np.ndarray, statistic: Callable, confidence: float, resamples: int, seed: int
) -> Float[np.ndarray, "2 *cells"]:
    """Ends of the percentile interval of every cell, some rows at a time; every block sees the same resamples."""
    shape, n = values.shape[:-1], values.shape[-1]
    rows = values.reshape(-1, n)
    ends = np.full((2, len(rows)), np.nan)
    use = np.flatnonzero(finite_rows(rows)) if n > 1 else np.empty(0, int)
    for start in range(0, len(use), ROWS):
        part = use[start : start + ROWS]
        block = rows[part]
        interval = _bootstrap(
            lambda w, block=block: statistic(block, w), n, confidence, resamples, seed
        ).confidence_interval
        ends[:, part] = interval.low, interval.high
    return ends.reshape(2, *shape)


def _norm(rows: np.ndarray) -> np.ndarray:
    norm = np.sqrt((rows**2).sum(axis=-1, keepdims=True))
    return np.where(norm == 0, 1.0, norm)


def _sign_blocks(n: int, draws: int, exact: bool, seed: int):
    """Blocks of signs ``[flip, example]``. The exact list fixes the last sign: s and −s have the same |statistic|."""
    if exact:
        count = np.arange(2 ** (n - 1))[:, None]
        yield 1.0 - 2.0 * ((count >> np.arange(n)) & 1)
        return
    rng = np.random.default_rng(seed)
    for start in range(0, draws, 1024):
        yield 1.0 - 2.0 * rng.integers(0, 2, size=(min(1024, draws - start), n))


def _largest(rows: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Largest statistic over all rows for each flip."""
    return np.abs(signs @ rows.T).max(axis=1, initial=0.0)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (side - side.mean(axis=-1, keepdims=True) for side in (a, b))
    return (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))


def _tails(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2
