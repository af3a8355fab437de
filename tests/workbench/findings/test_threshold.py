"""A threshold prints its rule and checks it; the verdict follows from all of them."""

from __future__ import annotations

import pytest

from workbench.errors import UsageError
from workbench.findings import Quantity, Threshold, judge

ABOVE = Threshold("gain", above=0.5)
CONTROL = Threshold("gain", above="that of random heads", refuted_by="value")
LIMIT = Threshold("error", at_most=0.1)
COUNT = Threshold("pairs", at_least=2, refuted_by="value")


def test_the_rule_is_printed_from_the_same_object() -> None:
    assert str(ABOVE) == "gain: lower end of its 95 % interval above 0.5"
    assert str(CONTROL) == "gain: lower end of its 95 % interval above that of random heads"
    assert str(LIMIT) == "error: at most 0.1"
    assert str(Threshold("pairs", at_least=2, detail="near ones")) == "pairs: at least 2 (near ones)"


@pytest.mark.parametrize(
    ("threshold", "measured", "status"),
    [
        (ABOVE, (Quantity(0.8, 0.6, 0.9),), "met"),
        (ABOVE, (Quantity(0.8, 0.5, 0.9),), "open"),
        (ABOVE, (Quantity(0.3, 0.2, 0.5),), "refuted"),
        (ABOVE, (Quantity(0.8),), "open"),  # no interval
        (CONTROL, (Quantity(0.8, 0.6, 0.9), 0.5), "met"),
        (CONTROL, (Quantity(0.4, 0.3, 0.9), 0.5), "refuted"),
        (CONTROL, (Quantity(0.4, 0.3, 0.9), float("nan")), "open"),
        (Threshold("a", above="b"), (Quantity(0.8, 0.6, 0.9), Quantity(0.4, 0.3, 0.5)), "met"),
        (Threshold("a", above="b"), (Quantity(0.2, 0.1, 0.3), Quantity(0.4, 0.3, 0.5)), "open"),  # they touch
        (Threshold("a", above="b"), (Quantity(0.2, 0.1, 0.2), Quantity(0.4, 0.3, 0.5)), "refuted"),
        (Threshold("a", above=0, refuted_by="nothing"), (Quantity(-2, -3, -1),), "open"),
        (COUNT, (Quantity.exact(2),), "met"),
        (COUNT, (Quantity(3, 1, 3),), "open"),
        (COUNT, (Quantity.exact(1),), "refuted"),
        (LIMIT, (Quantity.exact(0.1),), "met"),
        (LIMIT, (Quantity(0.05, 0.01, 0.1),), "met"),
        (LIMIT, (Quantity(0.05, 0.01, 0.11),), "open"),
        (LIMIT, (Quantity(0.2, 0.1, 0.3),), "open"),
        (LIMIT, (Quantity(0.2, 0.11, 0.3),), "refuted"),
        (LIMIT, (Quantity(float("nan")),), "open"),
        (Threshold("error", at_most=0.1, refuted_by="value"), (Quantity(0.2, 0.05, 0.3),), "refuted"),
        (Threshold("error", at_most=0.1, refuted_by="nothing"), (Quantity.exact(5),), "open"),
        (Threshold("kinds", at_least=3, refuted_by="value", refuted_at=0), (Quantity.exact(1),), "open"),
    ],
)
def test_an_interval_meets_a_threshold_leaves_it_open_or_refutes_it(
    threshold: Threshold, measured: tuple, status: str
) -> None:
    assert threshold.check(*measured)[0] == status


@pytest.mark.parametrize(
    ("threshold", "measured", "words"),
    [
        (ABOVE, (Quantity(0.6, 0.5004, 0.7),), "gain 0.6000 [0.5004, 0.7000] is above 0.5"),
        (
            CONTROL,
            (Quantity(0.5, 0.3456, 0.7), 0.3451),
            "gain 0.500 [0.346, 0.700] is above that of random heads (0.345)",
        ),
        (
            CONTROL,
            (Quantity(0.5, 0.34561, 0.7), 0.34560),
            "gain 0.50000 [0.34561, 0.70000] is above that of random heads (0.34560)",
        ),
        (LIMIT, (Quantity.exact(0.1),), "error 0.1 is at most 0.1"),
        (LIMIT, (Quantity.exact(0.1004),), "error 0.1004 is not at most 0.1"),
        (LIMIT, (Quantity.exact(2e-13),), "error 2e-13 is at most 0.1"),
        (LIMIT, (Quantity(0.09, 0.08, 0.12),), "error 0.09 [0.08, 0.12] is not surely at most 0.1"),
        (ABOVE, (Quantity(0.6, 0.4996, 0.7),), "gain 0.60 [0.50, 0.70] is not surely above 0.5"),
        (ABOVE, (Quantity(0.3, 0.2, 0.4996),), "gain 0.30 [0.20, 0.50] is not above 0.5"),
    ],
)
def test_what_is_above_is_written_above(threshold: Threshold, measured: tuple, words: str) -> None:
    assert threshold.check(*measured)[1] == words


def test_the_verdict_needs_every_threshold() -> None:
    thresholds = {"gain": ABOVE, "control": CONTROL}
    sure, unsure, none = Quantity(0.8, 0.6, 0.9), Quantity(0.8, 0.4, 0.9), Quantity(0.3, 0.2, 0.4)
    supported = judge(thresholds, gain=sure, control=(sure, 0.1))
    assert str(supported) == (
        "Supported: gain 0.80 [0.60, 0.90] is above 0.5; gain 0.80 [0.60, 0.90] is above that of random heads (0.10)."
    )
    undecided = judge(thresholds, gain=unsure, control=(sure, 0.1))
    assert undecided.verdict == "undecided" and undecided.reason == "gain 0.80 [0.40, 0.90] is not surely above 0.5"
    assert judge(thresholds, gain=none, control=(unsure, 0.1)).verdict == "not supported"
    # Of several quantities the lowest speaks for all.
    assert judge({"gain": ABOVE}, gain=[sure, unsure]).verdict == "undecided"
    assert judge({"gain": ABOVE}, gain=[sure, Quantity(0.9)]).verdict == "undecided"
    # Of several that have a limit, the highest.
    assert judge({"error": LIMIT}, error=[Quantity.exact(0.01), Quantity.exact(0.2)]).verdict == "not supported"


def test_thresholds_and_quantities_go_together() -> None:
    with pytest.raises(UsageError, match="measured are \\['loss'\\]"):
        judge({"gain": ABOVE}, loss=Quantity(1))
    with pytest.raises(UsageError, match="give one of above, at_least and at_most"):
        Threshold("gain")
    with pytest.raises(UsageError, match="expected a control when above is a string"):
        CONTROL.check(Quantity(1))
