"""Approximations, compared with another simulation of the same quantities (`independent`): the law's gap is printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import workbench as wb
from workbench.registry import imported

from . import independent
from .criteria import LIMIT, MANY, MOST_TRIALS
from .independent import Value
from .measure import KEYS_PAIRS, LENGTH, MORE, D, N
from .points import Row, point
from .verdict import SIMULATION

critical = imported("probes.memory.critical")
laws = imported("probes.memory.laws")
outlier_errors = imported("probes.memory.outlier").outlier_errors

PAIRS = f"pairs up to a worst case of {LIMIT:g}"


def rows(trials: int, seed: int) -> Iterator[Row]:
    """Every value of the other simulation beside ours, and the law where there is one."""
    for d, value in independent.WORST_CASE.items():
        pairs = critical.worst_case_pairs(d, LIMIT, MORE * trials if d <= D else trials, seed)
        law = critical.worst_case_law(d, LIMIT)
        yield _row(pairs, value, law, rule="hebbian", criterion=PAIRS, d=d, n=np.nan)
    yield from _curves("argmax", independent.ARGMAX, trials, seed)
    yield from _curves("sign", independent.SIGN, trials, seed)
    lengths = list(independent.LIMITED)
    errors = outlier_errors(independent.LIMITED_RULE, N, D, lengths, trials, seed)
    for (length, value), samples in zip(independent.LIMITED.items(), errors, strict=True):
        where = {"rule": independent.LIMITED_RULE, "criterion": "mse", "d": D, "n": N}
        yield _row(samples, value, np.nan, varied=LENGTH, at=length, **where)
    for keys, value in independent.DELTA_KEYS.items():
        curve = wb.memory("delta", d=D, n=KEYS_PAIRS, trials=trials, keys=keys, seed=seed)
        where = {"rule": "delta", "criterion": "mse", "d": D, "n": KEYS_PAIRS, "keys": keys}
        yield _row(curve.samples[0], value, float(curve.law[0]), **where)


def _curves(criterion: str, values: Mapping[tuple[int, int], Value], trials: int, seed: int) -> Iterator[Row]:
    for (d, n), value in values.items():
        many = MORE * trials if n <= MANY or criterion == "sign" else min(trials, MOST_TRIALS)
        curve = wb.memory("hebbian", d=d, n=n, trials=many, criterion=criterion, seed=seed)
        exact = laws.hebbian_sign_error_exact(n, d) if criterion == "sign" else None
        where = {"rule": "hebbian", "criterion": criterion, "d": d, "n": n}
        yield _row(curve.samples[0], value, float(curve.law[0]), exact, **where)


def _row(samples: np.ndarray, value: Value, law: float, exact: float | None = None, **where: Any) -> Row:
    """The gap of an approximate law is to the exact one, where there is one, else to what is simulated."""
    row = point(SIMULATION, samples, value.value, draws=independent.DRAWS, rounding=value.rounding, **where)
    return {**row, "law": law, "gap_of_law": law / (exact or row["simulated"]) - 1}
