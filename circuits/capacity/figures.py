"""The charts of the finding ``associative-capacity``: points are simulated, curves are laws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from workbench.plotting.charts import PointsAndCurves, Series
from workbench.registry import MEMORY_RULES, imported

from . import independent
from .criteria import SCALINGS, Capacity
from .measure import (
    D_MODEL,
    FAMILIES,
    HEAD_COUNT,
    HEAD_PAIRS,
    HEAD_SIZES,
    KEYS_PAIRS,
    LAYERS,
    LENGTH,
    RATIO,
    WIDTHS,
    D,
    N,
)
from .points import Row
from .verdict import SIMULATION

laws = imported("probes.memory.laws")
Sizes = imported("probes.memory.laws").Sizes

INTERVALS = "95 % intervals over trials"
ERROR = "mean-square error (1: a memory that reads 0)"
NAMES = {
    **{rule: MEMORY_RULES[rule].title for rule in FAMILIES},
    independent.LIMITED_RULE: "Delta rule with a limit",
}


def load(rows: Sequence[Row], d: int) -> PointsAndCurves:
    """The error of every rule against the number of pairs."""
    by_law = (row for row in rows if row["family"] != SIMULATION and not row["varied"])
    points = [row for row in by_law if row["criterion"] == "mse" and row["d"] == d]
    series = {}
    for rule in FAMILIES:
        law = MEMORY_RULES[rule].laws["mse"]
        sizes = Sizes(d, d, MEMORY_RULES[rule].complete({}))
        series[NAMES[rule]] = _series(
            _where(points, rule=rule), "n", lambda n, law=law, at=sizes: law.value(n, at), whole=True
        )
    return PointsAndCurves(
        series,
        title=f"Error against load · d = {d}",
        subtitle=f"random keys and values, read with the stored keys · {INTERVALS}",
        note="Laws of the Hebbian memory, with decay, of the delta rules and of the pseudo-inverse are exact in "
        "expectation; that of softmax is an approximation.",
        x_title="stored pairs n",
        y_title=ERROR,
        log_x=True,
    )


def criteria(measured: Sequence[Capacity]) -> PointsAndCurves:
    """The pairs that a memory holds against its dimensions, by each criterion."""
    names = {"worst case": "worst case ½", "mse": "mean square ½", "argmax": "half of the items right"}
    series = {}
    for criterion, (scaling, formula) in SCALINGS.items():
        points = sorted((each for each in measured if each.criterion == criterion), key=lambda each: each.d)
        d = np.array([each.d for each in points], dtype=float)
        ends = [each.quantity for each in points]
        x = np.geomspace(d.min(), d.max(), 40)
        series[f"{names[criterion]}: {formula}"] = Series(
            d,
            np.array([each.pairs for each in points]),
            np.array([end.low for end in ends]),
            np.array([end.high for end in ends]),
            (x, np.array([scaling(value) for value in x])),
        )
    return PointsAndCurves(
        series,
        title="How many pairs a Hebbian memory holds: three criteria, three laws",
        subtitle=f"pairs at which a criterion reaches its limit · {INTERVALS}",
        note="Worst case: the sum of |k · k'| over the other pairs, the cross-talk with the worst signs. Mean square: "
        "of a value of length one. Right: an item's own value has the largest product with what is read.",
        x_title="dimensions d of keys and values",
        y_title="stored pairs n",
        log_x=True,
        log_y=True,
    )


def depth(rows: Sequence[Row]) -> PointsAndCurves:
    """The error of a chain of memories against its length, for each width."""
    points = _varied(rows, LAYERS)
    series = {
        f"d = {d}": _series(_where(points, d=d), "at", lambda layers, d=d: laws.chain_mse(N, d, layers), whole=False)
        for d in WIDTHS
    }
    return PointsAndCurves(
        series,
        title=f"Error through depth and width · Hebbian memories, n = {N} pairs",
        subtitle=f"what one memory reads is the query of the next · {INTERVALS}",
        note="Law: (1 + (n − 1) / d)^L − 1, so that the width has to grow with the depth for one and the same error.",
        x_title="memories L in a chain",
        y_title=ERROR,
        log_y=True,
    )


def heads(rows: Sequence[Row]) -> PointsAndCurves:
    """The error of the mean of H heads."""
    points = _varied(rows, HEAD_COUNT)
    series = {
        f"heads of {d_key} dimensions": _series(
            _where(points, d=d_key),
            "at",
            lambda count, d_key=d_key: laws.heads_mse(HEAD_PAIRS, D_MODEL, d_key, count),
            whole=False,
        )
        for d_key in HEAD_SIZES
    }
    floor = (HEAD_PAIRS - 1) / D_MODEL
    return PointsAndCurves(
        series,
        title=f"Error against the number of heads · Hebbian memories, n = {HEAD_PAIRS} pairs",
        subtitle=f"the mean of H heads with random projections of the keys · {INTERVALS}",
        note=f"Keys have {D_MODEL} dimensions before they are projected. Twice as many heads do as well as heads twice "
        f"as large. The floor is (n − 1) / {D_MODEL} = {floor:.2f}, the error of one head that sees the whole keys.",
        x_title="heads H",
        y_title=ERROR,
        log_x=True,
        log_y=True,
    )


def outlier(rows: Sequence[Row]) -> PointsAndCurves:
    """The error of the other items against the length of an outlier."""
    points = _varied(rows, LENGTH)
    by_rule: dict[str, Callable[[float], float]] = {
        "hebbian": lambda length: laws.hebbian_outlier_mse(N, D, length),
        "delta": lambda length: laws.delta_outlier_mse(N, D, length, 1.0),
    }
    series = {
        NAMES[rule]: _series(_where(points, rule=rule), "at", by_rule.get(rule), whole=False) for rule in _rules(points)
    }
    return PointsAndCurves(
        series,
        title=f"An outlier among the values · n = {N} pairs, d = {D}",
        subtitle=f"the error of the {N - 1} values of length one · {INTERVALS}",
        note="In the Hebbian memory and the delta rule the outlier adds (c² − 1) / d to the error of each other. "
        f"The rule with a limit is {independent.LIMITED_RULE}: no error counts for more than a length of 1.5.",
        x_title="length c of the outlier",
        y_title=ERROR,
        log_x=True,
        log_y=True,
    )


def correlated(rows: Sequence[Row]) -> PointsAndCurves:
    """The error of each rule against the participation ratio of its keys."""
    points = _varied(rows, RATIO)
    by_rule: dict[str, Callable[[float], float]] = {
        "hebbian": lambda ratio: KEYS_PAIRS / ratio - 1,
        "pseudo-inverse": lambda _: laws.pseudo_inverse_mse(KEYS_PAIRS, D),
    }
    series = {
        NAMES[rule]: _series(_where(points, rule=rule), "at", by_rule.get(rule), whole=False) for rule in _rules(points)
    }
    return PointsAndCurves(
        series,
        title=f"Correlated keys · n = {KEYS_PAIRS} pairs, d = {D}",
        subtitle=f"random keys, with a falling spectrum, with a shared mean · {INTERVALS}",
        note="Laws: n / PR − 1 of the Hebbian memory, 1 − d / n of the pseudo-inverse, whatever the keys.",
        x_title="participation ratio PR of the keys",
        y_title=ERROR,
        log_x=True,
        log_y=True,
    )


def _varied(rows: Sequence[Row], varied: str) -> list[Row]:
    return [row for row in rows if row["varied"] == varied and row["family"] != SIMULATION]


def _where(rows: Sequence[Row], **values: Any) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


def _rules(rows: Sequence[Row]) -> list[str]:
    """In their order."""
    return list(dict.fromkeys(row["rule"] for row in rows))


def _series(rows: Sequence[Row], x: str, law: Callable[[Any], float] | None, *, whole: bool) -> Series:
    """The points of the rows, and the law between them where there is one; `whole`: of whole numbers."""
    rows = sorted(rows, key=lambda row: row[x])
    at, y, low, high = (np.array([row[name] for row in rows], dtype=float) for name in (x, "simulated", "low", "high"))
    curve = None
    if law is not None:
        line = np.geomspace(at.min(), at.max(), 60)
        line = np.unique(line.round().astype(int)) if whole else line
        curve = (line.astype(float), np.array([law(value) for value in line.tolist()]))
    return Series(at, y, low, high, curve)
