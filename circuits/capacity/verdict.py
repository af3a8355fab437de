"""What is expected of the numbers, stated before they were run, and the verdict that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workbench.findings import Judgement, Quantity, Threshold, judge

from .criteria import ARGMAX, MEAN_SQUARE, WORST
from .points import NO_ERROR, RECOVERED, Row, largest

#: The family of the points that are compared with another simulation, not with a law.
SIMULATION = "simulation"
#: Family of points → the laws that it is about.
FAMILIES = {
    "hebbian": "the Hebbian memory",
    "decay": "the memory with decay",
    "delta": "the delta rule, with and without a gate",
    "pseudo_inverse": "the pseudo-inverse above d pairs",
    "softmax": "softmax from 64 pairs on",
    "propagation": "noise in the query, depth, width and heads",
    "outlier": "an outlier value, Hebbian memory and delta rule",
    "keys": "correlated keys, Hebbian memory",
    SIMULATION: "the other simulation",
}
#: A bar wider than this share of the law decides nothing.
WIDEST_BAR = 0.05

THRESHOLDS = {
    **{family: Threshold(f"{words}: largest gap in bars", at_most=1) for family, words in FAMILIES.items()},
    RECOVERED: Threshold("error of the pseudo-inverse up to d pairs", at_most=NO_ERROR),
    "mean_square": Threshold("exponent of d at a mean square of ½", above="the exponent at a worst case of ½"),
    "argmax": Threshold("exponent of d with half of the items right", above="the exponent at a mean square of ½"),
    "bars": Threshold(
        "widest bar, as a share of the law",
        at_most=WIDEST_BAR,
        refuted_by="nothing",
        detail="with fewer trials a law that is off would pass",
    ),
}


def decide(rows: Sequence[Row], exponents: Mapping[str, Quantity]) -> Judgement:
    """The rule of `THRESHOLDS` on all points and on the exponents of the three criteria."""
    errors = [row["simulated"] for row in rows if row["family"] == RECOVERED]
    return judge(
        THRESHOLDS,
        **{family: largest(rows, family) for family in FAMILIES},
        **{RECOVERED: Quantity.exact(max(errors))},
        mean_square=(exponents[MEAN_SQUARE], exponents[WORST]),
        argmax=(exponents[ARGMAX], exponents[MEAN_SQUARE]),
        bars=widest_bar(rows),
    )


def judged(rows: Sequence[Row]) -> list[Row]:
    """The points that the bars are about."""
    return [row for row in rows if row["judged"] and row["family"] in FAMILIES]


def judged_by_law(rows: Sequence[Row]) -> list[Row]:
    """Those of them that a law is expected to meet."""
    return [row for row in judged(rows) if row["family"] != SIMULATION]


def widest_bar(rows: Sequence[Row]) -> Quantity:
    """Of all points that are judged by a law, as a share of it."""
    return Quantity.exact(max(row["bar"] / row["expected"] for row in judged_by_law(rows)))
