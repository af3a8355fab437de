"""The finding conditioning: its measurements on made-up learners, and its rules on cues that are alike."""

from __future__ import annotations

import numpy as np
import pytest

from circuits.conditioning import measure
from circuits.conditioning.measure import ATTENTION, DELTA, HEBB, Curves, Learner
from circuits.findings.conditioning import finding
from probes.conditioning.protocols import BLOCKING, CONTROL, Protocol
from workbench.errors import UsageError


def learner(name: str, seed: int | None, blocked: np.ndarray, control: np.ndarray) -> Learner:
    """One whose last answers are those."""

    def curve(protocol: Protocol) -> np.ndarray:
        last = {BLOCKING.name: blocked, CONTROL.name: control}.get(protocol.name, np.zeros_like(blocked))
        return np.stack([np.zeros_like(last), last], -1)

    return Learner(name, seed, curve)


def test_what_blocking_takes_is_the_difference_and_its_share_of_the_control() -> None:
    rng = np.random.default_rng(0)
    blocked, control = 0.25 + 0.01 * rng.standard_normal(30), 0.5 + 0.01 * rng.standard_normal(30)
    of = [learner(ATTENTION, 0, blocked, control), learner(ATTENTION, 1, control, control)]
    curves = Curves(of, lambda done, total: None)
    one, other = curves.difference(ATTENTION)
    assert one.value == pytest.approx((control - blocked).mean()) and one.low < 0.25 < one.high
    assert (other.value, other.low, other.high) == (0, 0, 0)
    assert curves.share(ATTENTION)[0].value == pytest.approx(1 - blocked.mean() / control.mean())
    table = curves.table()
    assert len(table) == 14 and set(table.learner) == {"attention 0", "attention 1"}
    assert set(table.set_index("protocol").loc[BLOCKING.name, "played in training"]) == {False}


def test_the_rules_are_exact_and_equal_their_closed_forms() -> None:
    rules = measure.rules_table(0.1)
    assert len(rules) == 10 and rules.largest_difference.max() < 1e-12
    curves = Curves([one for one in measure.learners(2, 0, 0.1) if one.name in measure.RULES], lambda done, total: None)
    assert curves.share(DELTA)[0].value == pytest.approx(1 - 0.9**20) and curves.share(HEBB)[0].value == 0


def test_a_step_or_an_angle_that_is_not_possible_is_refused() -> None:
    with pytest.raises(UsageError, match="step=0"):
        finding.report(None, {"step": 0.0})
    with pytest.raises(UsageError, match="cosines=1"):
        finding.report(None, {"cosines": [0.0, 1.0]})
