"""Closed forms of what n stored pairs cost a memory, for random keys of length one, read with the stored keys.

Keys and values are independent and uniform on the sphere of d (d_value) dimensions. The error of an item is the squared
length of the difference of what is read and its value, which has length one: an empty memory has an error of 1. The age
of an item is the number of pairs written after it. Each law says whether it is *exact in expectation* or an
approximation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special


class Sizes(NamedTuple):
    """What a law is taken at."""

    d: int
    d_value: int
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Law:
    """A closed form of a rule's criterion.

    Attributes:
        value: ``value(n, sizes)``.
        formula: in one line, for figures.
        exact: whether the mean over random keys and values is exactly that; else it is an approximation.
        any_keys: whether it holds for all keys that span their space, written any number of times; else for random keys
            that are written once.
        note: how far an approximation is off.
        of_gram: the law of these very keys, exact in expectation over values, from their Gram matrix, where there is
            one; `of_gram_formula` in one line.
    """

    value: Callable[[int, Sizes], float]
    formula: str
    exact: bool
    any_keys: bool = False
    note: str = ""
    of_gram: Callable[[Float[np.ndarray, "*trial n n"]], Float[np.ndarray, "*trial"]] | None = None
    of_gram_formula: str = ""


# --- the Hebbian memory


def hebbian_mse(n: int, d: int) -> float:
    """``(n − 1) / d``: n − 1 other values, each with weight (k · k')², whose mean is 1 / d.

    Exact in expectation. Source: derived from ``y = v_i + Σ_{j≠i} (k_j · k_i) v_j``.
    """
    return (n - 1) / d


def hebbian_cosine(n: int, d: int) -> float:
    """``1 / √(1 + (n − 1) / d)``, of what is read with the value.

    An approximation: the cross-talk is taken to be orthogonal to the value, and its length to be its mean; below 0.4 %
    at d_value = 64.
    """
    return 1 / math.sqrt(1 + hebbian_mse(n, d))


def hebbian_sign_error(n: int, d: int) -> float:
    """``Φ(−√(d / (n − 1)))``: the share of values ±1 that are read with the other sign.

    An approximation: the cross-talk is taken to be normal, which a few terms are not (at n = d / 4, 0.2 % above at
    d = 64 and 8 % at d = 16; see `hebbian_sign_error_exact`).
    """
    return 0.0 if n == 1 else float(special.ndtr(-math.sqrt(d / (n - 1))))


def hebbian_sign_error_exact(n: int, d: int, nodes: int = 400) -> float:
    """``½ − (1/π) ∫ sin(t) φ(t)^(n−1) / t dt`` with φ the characteristic function of the cosine of two random
    directions, whose density is ``(1 − u²)^((d−3)/2)``: what `hebbian_sign_error` approximates. For d > 2.

    Exact in expectation. Source: Gil-Pelaez 1951, of the sum of n − 1 such cosines beyond 1.
    """
    if n <= 2:
        return 0.0
    x, weight = np.polynomial.legendre.leggauss(nodes)
    density = weight * np.exp((d - 3) / 2 * np.log1p(-(x**2)))
    end = 12 * math.sqrt(d / (n - 1))  # twelve standard deviations of φ^(n − 1), as if normal
    t = end * (x + 1) / 2
    characteristic = np.cos(np.outer(t, x)) @ density / density.sum()
    area = end / 2 * (weight * np.sinc(t / np.pi) * characteristic ** (n - 1)).sum()
    return float(0.5 - area / math.pi)


def hebbian_argmax(n: float, d: int, d_value: int, nodes: int = 200) -> float:
    """``E_z[Φ((1 + s z) / s_c)^(n − 1)]``: the share of items whose own value has the largest product with what is
    read, z standard normal, ``s² = (n − 1) / (d d_value)`` and ``s_c² = 1/d + 1/d_value + (n − 2) / (d d_value)``.

    An approximation from below, by some 10 % at d = 64 where the share has fallen to 0.7, by 16 % at d = 32 where it is
    0.55: products of unit vectors have lighter tails than normal ones.
    """
    if n == 1:
        return 1.0
    s = math.sqrt((n - 1) / (d * d_value))
    s_c = math.sqrt(1 / d + 1 / d_value + (n - 2) / (d * d_value))
    z, weight = np.polynomial.hermite_e.hermegauss(nodes)
    return float((weight * special.ndtr((1 + s * z) / s_c) ** (n - 1)).sum() / math.sqrt(2 * math.pi))


def hebbian_worst_case(n: int, d: int) -> float:
    """``(n − 1) Γ(d/2) / (√π Γ((d+1)/2))``: the largest error of a scalar over all values from −1 to 1, the sum of all
    ``|k_j · k_i|``; about ``(n − 1) √(2 / (π d))``.

    Exact in expectation. Source: the mean of |cos| between random directions.
    """
    return (n - 1) * math.exp(special.gammaln(d / 2) - special.gammaln((d + 1) / 2)) / math.sqrt(math.pi)


def noisy_query_mse(n: int, d: int, noise: float) -> float:
    """``(n − 1) / d + noise² n / d``: read with the key and a random vector of length `noise`. Exact in expectation."""
    return (n - 1) / d + noise**2 * n / d


def chain_mse(n: int, d: int, layers: int) -> float:
    """``(1 + (n − 1) / d)^layers − 1``: what one memory reads is the query of the next, with fresh codes of the same
    items. An error passes on whole, because it lies in the span of the next keys.

    Exact in expectation. Source: derived. Item i reads ``V G_L ⋯ G_1 e_i`` with G the Gram matrices of each layer's
    keys, independent of each other and of the last values V; ``E[G] = I`` and ``E[G²] = (1 + (n − 1) / d) I``.
    """
    return (1 + (n - 1) / d) ** layers - 1


def heads_mse(n: int, d_model: int, d_key: int, heads: int) -> float:
    """``(n − 1)(1 / d_model + (1 + 1 / d_model) / (H d_key)) + 2 / (H d_key)``: the mean of H heads, each with its own
    random projection (entries of variance 1 / d_key) of keys of d_model dimensions. Exact in expectation.
    """
    width = heads * d_key
    return (n - 1) * (1 / d_model + (1 + 1 / d_model) / width) + 2 / width


def hebbian_outlier_mse(n: int, d: int, length: float) -> float:
    """``(n − 2 + c²) / d`` of the items whose values have length one, where one of the n values has length c.

    Exact in expectation, as `hebbian_mse` is.
    """
    return (n - 2 + length**2) / d


def of_gram(gram: Float[np.ndarray, "*trial n n"]) -> Float[np.ndarray, "*trial"]:
    """``n / PR − 1`` with the participation ratio ``PR = (tr G)² / tr G²`` of the keys' Gram matrix: the Hebbian
    memory's mean error with *these* keys of length one.

    Exact in expectation over independent values of length one and mean 0, whatever the keys.
    """
    n = gram.shape[-1]
    return n * np.square(gram).sum((-2, -1)) / np.trace(gram, axis1=-2, axis2=-1) ** 2 - 1


# --- decay


def decay_mse_by_age(n: int, d: int, decay: float) -> Float[np.ndarray, " age"]:
    """``(1 − g^a)² + [Σ_{b<n} g^{2b} − g^{2a}] / d`` of the items of age a = 0 … n − 1, with g the decay.

    Exact in expectation. Source: derived from ``S = Σ_b g^b v_b k_bᵀ``.
    """
    share = decay ** np.arange(n)
    return (1 - share) ** 2 + (np.square(share).sum() - np.square(share)) / d


def decay_cosine(n: int, d: int, decay: float) -> float:
    """The mean over ages of ``g^a / √(g^{2a} + cross-talk)``. An approximation, as that of the Hebbian memory."""
    signal = decay ** np.arange(n)
    noise = (np.square(signal).sum() - np.square(signal)) / d
    return float((signal / np.sqrt(signal**2 + noise)).mean())


# --- the delta rule


def delta_by_age(
    n: int, d: int, beta: float, decay: float = 1.0
) -> tuple[Float[np.ndarray, " age"], Float[np.ndarray, " age"]]:
    """``s_a = E[y · v]`` and ``x_a = E[‖y‖²]`` of the items of age a = 0 … n − 1, of ``S ← g S (I − β k kᵀ) + β v kᵀ``.

    With the memory's size after m pairs ``T_{m+1} = g² T_m (1 − (2β − β²)/d) + β²``, and for item i (from 0)::

        s_0 = β                        s_{a+1} = g s_a (1 − β/d)
        x_0 = g² (1−β)² T_i/d + β²     x_{a+1} = g² [x_a (1 − 2β/d + 2β²/(d(d+2))) + β² T_{i+1+a}/(d(d+2))] + β²/d

    Exact in expectation: the recursion needs the second and fourth moments of a random direction alone.
    """
    size = np.zeros(n + 1)
    for m in range(n):
        size[m + 1] = decay**2 * size[m] * (1 - (2 * beta - beta**2) / d) + beta**2
    signal = beta * (decay * (1 - beta / d)) ** np.arange(n)
    square = np.empty(n)
    x = decay**2 * (1 - beta) ** 2 * size[:n] / d + beta**2  # of the items 0 … n − 1 when they are written
    square[0] = x[n - 1]
    keep, pair = 1 - 2 * beta / d + 2 * beta**2 / (d * (d + 2)), d * (d + 2)
    for a in range(1, n):
        x = decay**2 * (x[: n - a] * keep + beta**2 * size[a:n] / pair) + beta**2 / d
        square[a] = x[n - 1 - a]
    return signal, square


def delta_mse(n: int, d: int, beta: float, decay: float = 1.0) -> float:
    """The mean over items of ``1 − 2 s_a + x_a``, see `delta_by_age`; with β = 1 and no decay it tends to
    ``2 (1 − e^{−a/d})`` at age a. Exact in expectation."""
    signal, square = delta_by_age(n, d, beta, decay)
    return float((1 - 2 * signal + square).mean())


def delta_cosine(n: int, d: int, beta: float, decay: float = 1.0) -> float:
    """The mean over items of ``s_a / √x_a``. An approximation: a mean of ratios is taken for a ratio of means."""
    signal, square = delta_by_age(n, d, beta, decay)
    return float((signal / np.sqrt(square)).mean())


def delta_outlier_mse(n: int, d: int, length: float, beta: float) -> float:
    """The mean over the items of age 1 to n − 1 of ``1 − 2 s_a + x_a``, see `delta_by_age`, and ``β² (c² − 1) / d``,
    where the last of the n values has length c: what corrects errors in proportion does not limit them.

    Exact in expectation: only ``β² c² E[(k · k_i)²]`` depends on the length.
    """
    signal, square = delta_by_age(n, d, beta)
    return float((1 - 2 * signal + square)[1:].mean()) + beta**2 * (length**2 - 1) / d


def delta_size(d: int, beta: float, decay: float) -> float:
    """``β² / (1 − g² (1 − (2β − β²)/d))``: ``‖S‖²`` after very many pairs. Exact in expectation."""
    return beta**2 / (1 - decay**2 * (1 - (2 * beta - beta**2) / d))


# --- the pseudo-inverse


def pseudo_inverse_mse(n: int, d: int) -> float:
    """``max(0, 1 − d/n)``: the trace of what the projection onto the keys' span leaves, over n.

    Exact in expectation over independent values, for every set of keys that spans ``min(n, d)`` dimensions.
    """
    return max(0.0, 1 - d / n)


def pseudo_inverse_cosine(n: int, d: int) -> float:
    """``min(1, √(d/n))``. An approximation: a mean of ratios is taken for a ratio of means."""
    return min(1.0, math.sqrt(d / n))


# --- softmax


def log_mean_exponential(d: int, beta: float) -> float:
    """``log E[e^{β u}]`` with u the cosine of two random directions: ``E = Γ(d/2) (2/β)^{d/2−1} I_{d/2−1}(β)``, which
    is ``₀F₁(; d/2; β²/4)``; about ``β² / (2 d)``. Exact."""
    order = d / 2 - 1
    scaled = float(special.ive(order, beta))
    if scaled > 0:
        return float(special.gammaln(d / 2)) + order * math.log(2 / beta) + math.log(scaled) + beta
    return math.log(special.hyp0f1(d / 2, beta**2 / 4))  # of orders far above β, where Bessel's function underflows


def softmax_weight(n: int, d: int, beta: float) -> float:
    """``p = 1 / (1 + (n − 1) E[e^{β u}] e^{−β})``: the weight on the right item. An approximation: the sum over the
    others is taken to be its mean, which needs many (2 % from n = 64 on at d = 64 and β = √d)."""
    return 1 / (1 + (n - 1) * math.exp(log_mean_exponential(d, beta) - beta))


def _softmax_others(n: int, d: int, beta: float) -> float:
    p = softmax_weight(n, d, beta)
    return (n - 1) * math.exp(log_mean_exponential(d, 2 * beta) - 2 * beta) * p**2


def softmax_mse(n: int, d: int, beta: float) -> float:
    """``(1 − p)² + (n − 1) E[e^{2βu}] e^{−2β} p²``, see `softmax_weight`. An approximation, as that is."""
    return (1 - softmax_weight(n, d, beta)) ** 2 + _softmax_others(n, d, beta)


def softmax_cosine(n: int, d: int, beta: float) -> float:
    """``p / √(p² + Σ_{j≠i} p_j²)``. An approximation."""
    p = softmax_weight(n, d, beta)
    return p / math.sqrt(p**2 + _softmax_others(n, d, beta))


def softmax_worst_case(n: int, d: int, beta: float) -> float:
    """``2 (1 − p)``: what is missing of the right value, and all the others. An approximation."""
    return 2 * (1 - softmax_weight(n, d, beta))
