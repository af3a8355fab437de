"""The finding associative-capacity: bars and verdicts follow from numbers, and a law that is off is refuted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from circuits.capacity import agreement, criteria, independent, measure
from circuits.capacity.criteria import ARGMAX, MEAN_SQUARE, WORST, Capacity
from circuits.capacity.points import RECOVERED, largest, point
from circuits.capacity.verdict import FAMILIES, decide, widest_bar
from circuits.capacity.words import by_chance
from probes.memory import laws
from workbench.findings import Quantity

WHERE: dict[str, Any] = {"rule": "hebbian", "criterion": "mse", "d": 4, "n": 3}
EXPONENTS = {WORST: Quantity(0.5, 0.45, 0.55), MEAN_SQUARE: Quantity(1, 0.95, 1.05), ARGMAX: Quantity(1.7, 1.6, 1.8)}


def trials(mean: float, error: float, n: int = 100) -> np.ndarray:
    """Of this mean and standard error, exactly."""
    half = np.tile([1.0, -1.0], n // 2)
    return mean + half * error * math.sqrt(n - 1)


def test_a_bar_is_two_percent_or_three_standard_errors() -> None:
    narrow = point("hebbian", trials(1.01, 0.001), 1.0, **WHERE)
    assert (narrow["simulated"], narrow["standard_error"]) == pytest.approx((1.01, 0.001))
    assert (narrow["bar"], narrow["in_bars"]) == pytest.approx((0.02, 0.5))
    assert narrow["by_chance"] < 1e-80
    wide = point("hebbian", trials(1.01, 0.1), 1.0, **WHERE)
    assert (wide["bar"], wide["in_bars"]) == pytest.approx((0.3, 1 / 30))
    assert wide["by_chance"] == pytest.approx(0.0027, abs=1e-4)  # of a normal number beyond three deviations
    both = point("simulation", trials(1.01, 0.1), 1.0, draws=25, rounding=0.05, **WHERE)
    assert both["bar"] == pytest.approx(3 * 0.1 * math.sqrt(1 + 100 / 25) + 0.05)


def rows(**gaps: float) -> list[dict[str, Any]]:
    """A point of each family, with these gaps to a law of 1."""
    points = [point(family, trials(1 + gaps.get(family, 0.0), 0.001), 1.0, **WHERE) for family in FAMILIES]
    return [*points, point(RECOVERED, trials(gaps.get(RECOVERED, 1e-9), 0.0), 0.0, **WHERE)]


@pytest.mark.parametrize(
    ("gaps", "exponents", "verdict"),
    [
        ({}, {}, "supported"),
        ({"softmax": 0.019}, {}, "supported"),
        *(({family: -0.021}, {}, "not supported") for family in FAMILIES),
        ({RECOVERED: 2e-6}, {}, "not supported"),
        ({}, {WORST: Quantity(0.9, 0.8, 1.0)}, "undecided"),
        ({}, {ARGMAX: Quantity(0.8, 0.75, 0.85)}, "not supported"),
    ],
)
def test_one_law_that_fails_decides(gaps: dict[str, float], exponents: dict[str, Quantity], verdict: str) -> None:
    assert decide(rows(**gaps), {**EXPONENTS, **exponents}).verdict == verdict


def test_few_trials_do_not_support_a_law() -> None:
    wide = [*rows(), point("hebbian", trials(1.0, 0.02), 1.0, **WHERE)]
    assert decide(wide, EXPONENTS).verdict == "undecided" and widest_bar(wide).value == pytest.approx(0.06)
    compared = [*rows(), point("simulation", trials(1.0, 0.02), 1.0, **WHERE)]  # with no law
    assert decide(compared, EXPONENTS).verdict == "supported"


def test_what_is_not_judged_is_only_printed() -> None:
    points = [*rows(), point("softmax", trials(1.5, 0.001), 1.0, judged=False, **WHERE)]
    assert decide(points, EXPONENTS).verdict == "supported" and largest(points, "softmax").value < 1
    assert math.isnan(largest([], "softmax").value)


def test_how_many_points_would_fail_by_chance() -> None:
    points = [point("decay", trials(1.0, error), 1.0, **WHERE) for error in (0.1, 0.1, 0.001)]
    assert by_chance(points) == (2, pytest.approx(0.0054, abs=1e-4))


@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_the_simulations_tell_a_law_from_one_that_is_a_tenth_off(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that could not fail would show nothing."""
    for name in ("noisy_query_mse", "chain_mse", "heads_mse", "hebbian_outlier_mse", "delta_outlier_mse"):
        law = getattr(laws, name)
        monkeypatch.setattr(laws, name, lambda *at, law=law: factor * law(*at))
    points = [*measure.propagation(40, 1), *measure.outliers(40, 1)]
    for family in ("propagation", "outlier"):
        assert (largest(points, family).value > 1) == (factor > 1)


def test_the_exponents_of_laws() -> None:
    def measured(pairs: Any) -> list[Capacity]:
        of = {WORST: pairs, MEAN_SQUARE: lambda d: d, ARGMAX: lambda d: d**2}
        return [Capacity(name, d, 9, float(f(d)), np.full(5, float(f(d)))) for name, f in of.items() for d in (16, 64)]

    exponents = criteria.exponents(measured(lambda d: 3 * d**0.5))
    assert [exponents[name].value for name in (WORST, MEAN_SQUARE, ARGMAX)] == pytest.approx([0.5, 1, 2])
    assert exponents[WORST].low == pytest.approx(0.5)
    worst = [each for each in measured(lambda d: d) if each.criterion == WORST]
    assert criteria.exponent_of_law(worst) == pytest.approx(0.5)  # ½ √(π d / 2)


def test_the_other_simulation_is_compared_value_by_value() -> None:
    compared = list(agreement.rows(20, 0))
    values = [*independent.WORST_CASE, *independent.ARGMAX, *independent.SIGN, *independent.LIMITED]
    assert len(compared) == len(values) + len(independent.DELTA_KEYS)
    assert largest(compared, agreement.SIMULATION).value < 1
    sign = {(row["d"], row["n"]): row for row in compared if row["criterion"] == "sign"}
    row = sign[64, 64]
    assert row["expected"] == 0.153 and row["law"] == pytest.approx(0.157, abs=1e-3)
    assert row["gap_of_law"] == pytest.approx(row["law"] / laws.hebbian_sign_error_exact(64, 64) - 1)
    assert compared[0]["gap_of_law"] == pytest.approx(compared[0]["law"] / compared[0]["simulated"] - 1)
