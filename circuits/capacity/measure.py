"""The simulations: curves of every rule, error through a network, an outlier, correlated keys, three criteria."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

import workbench as wb
from workbench.registry import imported

from . import independent
from .points import NO_ERROR, RECOVERED, Row, point

laws = imported("probes.memory.laws")
outlier_errors = imported("probes.memory.outlier").outlier_errors
chain_errors = imported("probes.memory.propagation").chain_errors
head_errors = imported("probes.memory.propagation").head_errors
noisy_query_errors = imported("probes.memory.propagation").noisy_query_errors

#: Families of rules by name, as thresholds have them.
FAMILIES = {
    "hebbian": "hebbian",
    "decay": "decay",
    "delta": "delta",
    "gated-delta": "delta",
    "pseudo-inverse": "pseudo_inverse",
    "softmax": "softmax",
}
#: Loads as shares of d.
LOADS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4)
#: Loads up to which there are `MORE` times as many trials: a mean over few items differs from trial to trial.
SMALL, MORE = 16, 10
#: Approximations are judged from so many dimensions on, the softmax ones from so many pairs on; they need many.
LARGE = 64
#: Of the sections that are about one size: dimensions, and pairs.
D, N = 64, 32
NOISES, DEPTH, WIDTHS = (0.3, 1.0, 2.0), 6, (64, 128, 256)
D_MODEL, HEAD_PAIRS, HEAD_SIZES, HEADS = 512, 128, (32, 64), (1, 2, 4, 8, 16)
LENGTHS = (1.0, 3.0, 10.0, 30.0)
OUTLIER_RULES = ("hebbian", "delta", independent.LIMITED_RULE, "softmax")
KEYS_PAIRS, KEYS = 128, tuple(independent.DELTA_KEYS)
NOISE, LAYERS, HEAD_COUNT, LENGTH = "length of the noise in the query", "layers", "heads", "length of the outlier"
RATIO = "participation ratio of the keys"
#: Rule → the family that its law of such keys belongs to; none where it has no law.
KEYS_RULES = {"hebbian": "keys", "delta": "", "pseudo-inverse": "pseudo_inverse", "softmax": ""}


def curves(dims: Sequence[int], trials: int, seed: int) -> Iterator[Row]:
    """Mean-square error and cosine of every rule at loads from d/8 to 4 d; of the Hebbian memory the worst case, too,
    and the sign error where it is not too rare."""
    for d in dims:
        loads = [round(share * d) for share in LOADS]
        for rule, family in FAMILIES.items():
            for criterion in ("mse", "cosine"):
                yield from _curve(rule, family, criterion, d, loads, trials, seed)
        yield from _curve("hebbian", "hebbian", "worst case", d, loads, trials, seed)
        sign = [d // 2, d, 2 * d]
        curve = wb.memory("hebbian", d=d, n=sign, trials=MORE * trials, criterion="sign", seed=seed)
        for n, samples in zip(sign, curve.samples, strict=True):
            law = laws.hebbian_sign_error_exact(n, d)
            yield point("hebbian", samples, law, rule="hebbian", criterion="sign", d=d, n=n)


def _curve(
    rule: str, family: str, criterion: str, d: int, loads: Sequence[int], trials: int, seed: int
) -> Iterator[Row]:
    for part, many in (([n for n in loads if n <= SMALL], MORE * trials), ([n for n in loads if n > SMALL], trials)):
        if not part:
            continue
        curve = wb.memory(rule, d=d, n=part, trials=many, criterion=criterion, seed=seed)
        law = curve.info["law"] or {}
        for n, samples, expected in zip(part, curve.samples, curve.law, strict=True):
            judged = law["exact"] or (d >= LARGE and (rule != "softmax" or n >= LARGE))
            where = {"rule": rule, "criterion": criterion, "d": d, "n": n}
            if rule != "pseudo-inverse" or n > d:
                yield point(family, samples, float(expected), judged=judged, **where)
            elif criterion == "mse":  # the cosine is 1 to rounding, as the error says
                yield point(RECOVERED, samples, float(expected), rounding=NO_ERROR, **where)


def propagation(trials: int, seed: int) -> Iterator[Row]:
    """Noise in the query, depth and width, and the number of heads."""
    for length, samples in zip(NOISES, noisy_query_errors(N, D, NOISES, MORE * trials, seed), strict=True):
        yield _hebbian(samples, laws.noisy_query_mse(N, D, length), D, N, NOISE, length)
    for d in WIDTHS:
        errors = chain_errors(N, d, DEPTH, MORE * trials if d < WIDTHS[-1] else trials, seed)
        for layers, samples in enumerate(errors, 1):
            yield _hebbian(samples, laws.chain_mse(N, d, layers), d, N, LAYERS, layers)
    for d_key in HEAD_SIZES:
        errors = head_errors(HEAD_PAIRS, D_MODEL, d_key, HEADS, max(2, trials // 2), seed)
        for heads, samples in zip(HEADS, errors, strict=True):
            law = laws.heads_mse(HEAD_PAIRS, D_MODEL, d_key, heads)
            yield _hebbian(samples, law, d_key, HEAD_PAIRS, HEAD_COUNT, heads)


def _hebbian(samples: Float[np.ndarray, " trial"], law: float, d: int, n: int, varied: str, at: float) -> Row:
    return point("propagation", samples, law, rule="hebbian", criterion="mse", d=d, n=n, varied=varied, at=at)


def outliers(trials: int, seed: int) -> Iterator[Row]:
    """The last of the values is an outlier, by its length: the error of the others."""
    nan = float("nan")
    for rule in OUTLIER_RULES:
        has_law = rule in ("hebbian", "delta")
        errors = outlier_errors(rule, N, D, LENGTHS, MORE * trials if has_law else trials, seed)
        for length, samples in zip(LENGTHS, errors, strict=True):
            by_rule = {
                "hebbian": laws.hebbian_outlier_mse(N, D, length),
                "delta": laws.delta_outlier_mse(N, D, length, 1),
            }
            where = {"rule": rule, "criterion": "mse", "d": D, "n": N, "varied": LENGTH, "at": length}
            yield point("outlier", samples, by_rule.get(rule, nan), judged=has_law, **where)


def correlated_keys(trials: int, seed: int) -> Iterator[Row]:
    """Keys that are correlated, by their spectrum or by a mean that they share."""
    ratios = {}
    for rule, family in KEYS_RULES.items():
        for keys in KEYS:
            curve = wb.memory(rule, d=D, n=KEYS_PAIRS, trials=trials, keys=keys, seed=seed)
            law = float(curve.law[0]) if family else float("nan")
            if rule == "hebbian":
                ratios[keys] = KEYS_PAIRS / (law + 1)
            where = {"rule": rule, "criterion": "mse", "d": D, "n": KEYS_PAIRS, "keys": keys}
            samples = curve.samples[0]
            yield point(family, samples, law, judged=bool(family), varied=RATIO, at=ratios[keys], **where)
