"""The number of pairs at which a Hebbian memory reaches a limit, by three criteria that answer different questions.

- Worst case: the cross-talk of a scalar, with values that all have the wrong sign, ``Σ_j |k_j · k|``: about √d pairs.
- Mean square: ``E‖y − v‖²``: about d pairs.
- Argmax: the share of items that are nearest to their own value: about ``d d_value / log n`` pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy import optimize

from . import laws
from .draws import draw, keys_of, pieces


@torch.no_grad()
def worst_case_pairs(d: int, limit: float, trials: int, seed: int) -> Float[np.ndarray, " trial"]:
    """The number of other pairs whose ``Σ |k_j · k|`` reaches the limit, in each trial, counted as they are added."""
    n = 2 + math.ceil(4 * worst_case_law(d, limit) + 8)  # 4 times as many as are needed on average
    counts = []
    for some in pieces(trials, n * d):
        k, _ = draw(keys_of("random"), some, n, d, 1, seed)
        cross_talk = (k[:, 1:] @ k[:, 0, :, None]).abs()[..., 0].cumsum(1)
        counts.append((cross_talk < limit).sum(1) + 1)
    return torch.cat(counts).numpy().astype(np.float64)


def worst_case_law(d: int, limit: float) -> float:
    """``limit √(π d / 2)``: limit over the mean of |k · k'|. An approximation: it is reached in whole steps, and some
    half a pair later."""
    return limit * math.sqrt(math.pi * d / 2)


def mean_square_law(d: int, limit: float) -> float:
    """``1 + limit d``, at which ``(n − 1) / d`` is the limit."""
    return 1 + limit * d


def argmax_law(d: int, limit: float) -> float:
    """The n at which `laws.hebbian_argmax` falls to the limit, keys and values of d dimensions; of a half it is near
    `argmax_scaling`. An approximation, as that is."""
    return _root(lambda n: laws.hebbian_argmax(n, d, d) - limit, d)


def argmax_scaling(d: int) -> float:
    """The n of ``n ln n = d² / 2``, with keys and values of d dimensions."""
    return _root(lambda n: n * math.log(n) - d * d / 2, d)


def _root(difference: Callable[[float], float], d: int) -> float:
    """Between 2 and 8 d² pairs."""
    return float(optimize.root_scalar(difference, bracket=(2, 8 * d * d)).root)


def crossings(
    loads: Sequence[int], samples: Float[np.ndarray, "load trial"], limit: float, resamples: int, seed: int
) -> tuple[float, Float[np.ndarray, " resample"]]:
    """Where the mean over trials reaches the limit, between the loads by a straight line: of all trials, and of trials
    sampled with replacement. NaN where it does not within the loads."""
    rng, trials = np.random.default_rng(seed), samples.shape[1]
    weights = rng.multinomial(trials, np.full(trials, 1 / trials), size=resamples) / trials
    means = samples @ weights.T
    return crossing(loads, samples.mean(1), limit), np.array([crossing(loads, mean, limit) for mean in means.T])


def crossing(loads: Sequence[int], values: Float[np.ndarray, " load"], limit: float) -> float:
    """Where the values, between the loads by a straight line, first have the other side of the limit; else NaN."""
    sides = values >= limit
    changes = np.flatnonzero(sides[1:] != sides[:-1])
    if not len(changes):
        return math.nan
    i = int(changes[0])
    share = (limit - values[i]) / (values[i + 1] - values[i])
    return float(loads[i] + share * (loads[i + 1] - loads[i]))
