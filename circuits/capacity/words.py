"""The finding ``associative-capacity`` in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from workbench.findings import Quantity

from . import agreement, criteria
from .criteria import Capacity
from .figures import NAMES
from .measure import KEYS_PAIRS, LENGTH, LENGTHS, RATIO, N
from .points import ERRORS, SHARE, Row
from .verdict import FAMILIES, SIMULATION, judged, judged_by_law

CRITERIA = {
    criteria.WORST: "a worst case of ½",
    criteria.MEAN_SQUARE: "a mean square of ½",
    criteria.ARGMAX: "half of the items right",
}


def in_words(rows: Sequence[Row], measured: Sequence[Capacity], exponents: Mapping[str, Quantity]) -> Iterator[str]:
    """What was measured, a line each."""
    yield f"Points within their bars, max(2 %, {ERRORS:g} standard errors):"
    for family, words in FAMILIES.items():
        gaps = [row["in_bars"] for row in judged(rows) if row["family"] == family]
        if gaps:
            beyond = sum(gap > 1 for gap in gaps)
            yield f"  {words}: {len(gaps) - beyond} of {len(gaps)}, largest gap {max(gaps):.2f} bars"
    by_error, chance = by_chance(rows)
    yield (
        f"Of {len(judged_by_law(rows))} points with a law, {by_error} have a bar of {ERRORS:g} standard errors, the "
        f"others of 2 %; were every law exact, {chance:.2f} points would be expected beyond their bars by chance."
    )
    yield ""
    yield "Pairs that a Hebbian memory holds:"
    for criterion, words in CRITERIA.items():
        points = [each for each in measured if each.criterion == criterion]
        pairs = ", ".join(f"{each.quantity:.1f} at d = {each.d}" for each in points)
        law, formula = criteria.exponent_of_law(points), criteria.SCALINGS[criterion][1]
        yield f"  {words}: {pairs}; exponent of d {exponents[criterion]}, that of {formula} is {law:.2f}"
    yield ""
    yield from _robustness(rows)


def by_chance(rows: Sequence[Row]) -> tuple[int, float]:
    """How many bars of laws are standard errors, and how many points exact laws would have beyond their bars."""
    points = judged_by_law(rows)
    by_error = sum(ERRORS * row["standard_error"] > SHARE * row["expected"] for row in points)
    return by_error, sum(row["by_chance"] for row in points)


def _robustness(rows: Sequence[Row]) -> Iterator[str]:
    outlier = f"the length of one of {N} values grows from 1 to {LENGTHS[-1]:g}"
    yield f"Error of the others as {outlier}: {_changes(rows, LENGTH)}."
    ratios = sorted((row["at"] for row in rows if row["varied"] == RATIO), reverse=True)
    participation = f"participation ratio of {KEYS_PAIRS} keys falls from {ratios[0]:.0f} to {ratios[-1]:.1f}"
    yield f"Error as the {participation}: {_changes(rows, RATIO, falls=True)}."
    yield ""
    yield "Approximations, the gap of the law to what is simulated, of the sign error to the exact law (no verdict):"
    for criterion in (agreement.PAIRS, "argmax", "sign"):
        gaps = [row["gap_of_law"] for row in rows if row["family"] == SIMULATION and row["criterion"] == criterion]
        yield f"  {criterion}: {min(gaps):+z.1%} to {max(gaps):+z.1%} at {len(gaps)} points"


def _changes(rows: Sequence[Row], varied: str, falls: bool = False) -> str:
    """The error of each rule at both ends of what was varied; `falls`: from the largest to the smallest."""
    by_rule: dict[str, list[Row]] = {}
    for row in rows:
        if row["varied"] == varied and row["family"] != SIMULATION:
            by_rule.setdefault(row["rule"], []).append(row)
    changes = []
    for rule, points in by_rule.items():
        points.sort(key=lambda row: row["at"], reverse=falls)
        changes.append(f"{NAMES[rule]} {points[0]['simulated']:.2g} to {points[-1]['simulated']:.2g}")
    return ", ".join(changes)
