"""The rules of the findings besides circuit-reuse: verdicts follow from numbers, roles from what heads do."""

from __future__ import annotations

from dataclasses import astuple
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from circuits.ablation_curve import LEAST, MOST, orders
from circuits.circuit_tests import size
from circuits.findings import circuit_repair, faithfulness, head_ablation, ioi_circuit
from circuits.ioi.roles import ROLES, attention, has_role, uniform
from circuits.repair import repairing
from tests.families import paired
from workbench.core import Head
from workbench.findings import Quantity, judge
from workbench.findings.task_pairs import sharing_a_length


@pytest.mark.parametrize(
    ("low", "gain", "high", "beyond", "verdict"),
    [
        (0.05, 0.1, 0.2, 0.01, "supported"),
        (0.05, 0.1, 0.2, -0.01, "undecided"),
        (-0.05, 0.1, 0.2, 0.01, "undecided"),
        (-0.2, -0.1, -0.05, 0.01, "not supported"),
        (-0.1, 0.0, 0.1, 0.01, "not supported"),
    ],
)
def test_a_repair_beats_its_controls_or_is_none(
    low: float, gain: float, high: float, beyond: float, verdict: str
) -> None:
    measured = {"gain": Quantity(gain, low, high), "beyond": Quantity(beyond, beyond, beyond)}
    assert judge(circuit_repair.finding.thresholds, **measured).verdict == verdict


@pytest.mark.parametrize(
    ("correlations", "low", "high", "verdict"),
    [
        ([0.6, 0.9], 0.1, 0.5, "supported"),
        ([0.4, 0.9], 0.1, 0.5, "undecided"),
        ([0.6, 0.9], -0.1, 0.5, "undecided"),
        ([0.6, 0.9], -0.5, -0.1, "not supported"),
    ],
)
def test_ablations_agree_and_the_ranking_holds(
    correlations: list[float], low: float, high: float, verdict: str
) -> None:
    agreement = [Quantity(value, value, value) for value in correlations]
    area = Quantity((low + high) / 2, low, high)
    assert judge(head_ablation.finding.thresholds, area=area, agreement=agreement).verdict == verdict


def test_the_orders_are_each_others_reverse_and_random_ones_differ() -> None:
    drop = np.array([[0.1, 3.0], [-1.0, 0.5]])
    result = orders(drop, 2, seed=0)
    assert [str(h) for h in result[MOST]] == ["0.1", "1.1", "0.0", "1.0"]
    assert result[LEAST] == result[MOST][::-1]
    assert all(sorted(heads) == sorted(result[MOST]) for heads in result.values()) and len(result) == 4


@pytest.mark.parametrize(
    ("share", "low", "high", "at_random", "verdict"),
    [
        (0.8, 0.7, 0.9, [0.1, 0.2], "supported"),
        (0.8, 0.4, 0.9, [0.1, 0.2], "undecided"),
        (0.8, 0.7, 0.9, [0.75, 0.78], "undecided"),
        (0.3, 0.2, 0.4, [0.1, 0.2], "not supported"),
        (0.8, 0.7, 0.9, [0.9, 0.95], "not supported"),
    ],
)
def test_a_circuit_is_enough_when_it_beats_random_ones(
    share: float, low: float, high: float, at_random: list[float], verdict: str
) -> None:
    faithful, control = Quantity(share, low, high), float(np.percentile(at_random, 95))
    thresholds = faithfulness.finding.thresholds
    assert judge(thresholds, enough=faithful, control=(faithful, control)).verdict == verdict


def test_minimality_looks_at_magnitudes() -> None:
    whole = np.full(5, 2.0)
    assert astuple(size(np.full(5, -1.0), whole)) == pytest.approx((0.5, 0.5, 0.5))
    sided = size(np.array([-1.0, 1.0, -1.0, 1.0, 0.5]), whole)
    assert sided.low == 0 and sided.value > 0


ATTENDED = {
    ("end", "IO"): np.full(6, 0.6),
    ("end", "S1"): np.full(6, 0.1),
    ("end", "S2"): np.full(6, 0.1),
    ("S2", "S1"): np.full(6, 0.5),
    ("S2", "S1+1"): np.full(6, 0.05),
    ("S1+1", "S1"): np.full(6, np.nan),
}


def test_roles_ask_for_sign_attention_and_writing() -> None:
    by_name = {role.name: role for role in ROLES}

    def holds(name: str, effect: float, copies: float = 0.0, suppresses: float = 0.0, attended: Any = None) -> bool:
        return has_role(by_name[name], effect, ATTENDED | (attended or {}), 0.07, copies, suppresses)

    assert holds("mover", 0.3, copies=0.9)
    assert not holds("mover", -0.3, copies=0.9)  # it works against the answer
    assert not holds("mover", 0.3, copies=0.2)  # it does not write what it reads
    elsewhere = {("end", "IO"): np.full(6, 0.1), ("end", "S2"): np.full(6, 0.6)}
    assert not holds("mover", 0.3, copies=0.9, attended=elsewhere)
    assert holds("subject suppressor", 0.3, suppresses=0.9, attended=elsewhere)
    assert holds("negative mover", -0.3, suppresses=0.9)
    assert holds("inhibition", 0.3, attended=elsewhere) and not holds("inhibition", 0.3)
    assert holds("duplicate-token", 0.1) and not holds("induction", 0.1)
    assert not holds("previous-token", 0.1)  # the place is not seen
    unsure = {("end", "IO"): np.array([0.6, 0.0, 0.0, 0.0, 0.0, 0.0])}
    assert not holds("mover", 0.3, copies=0.9, attended=unsure)


def test_attention_is_read_at_named_places() -> None:
    inputs = paired(2)
    patterns = [np.random.default_rng(i).random((len(ids), len(ids))) for i, ids in enumerate(inputs.clean)]
    weights = attention(patterns, inputs, "end", "S")
    assert weights[0] == patterns[0][inputs.positions[0]["end"], inputs.positions[0]["S"]]
    assert np.isnan(attention(patterns, inputs, "S", "end")).all()
    assert uniform(inputs, "end") == pytest.approx(np.mean([1 / len(ids) for ids in inputs.clean]))


@pytest.mark.parametrize(
    ("roles", "verdict"),
    [
        (("mover", "inhibition", "induction"), "supported"),
        (("subject suppressor", "inhibition", "duplicate-token"), "supported"),
        (("mover", "inhibition"), "undecided"),
        (("unexplained", "previous-token"), "not supported"),
    ],
)
def test_the_ioi_circuit_needs_every_kind(roles: tuple[str, ...], verdict: str) -> None:
    assert judge(ioi_circuit.finding.thresholds, kinds=ioi_circuit.kinds(roles)).verdict == verdict


def test_only_prompts_that_share_a_length_are_resampled() -> None:
    inputs = paired(5, lengths=(9, 9, 11, 9, 13))
    assert [len(ids) for ids in sharing_a_length(inputs).clean] == [9, 9, 9]


def test_repairing_heads_are_inhibition_and_negative_movers() -> None:
    effect = np.zeros((3, 4))
    effect[2, 1], effect[1, 3] = -0.5, 0.4
    top = [Head(2, 1), Head(1, 3)]
    query = SimpleNamespace(effect=np.where(np.arange(12).reshape(3, 4) == 6, 0.3, 0.0))
    logits = SimpleNamespace(effect=effect, sweep=SimpleNamespace(top=lambda percent: top))
    stages: Any = SimpleNamespace(done={"logits": logits, "mover-query": query})
    assert repairing(stages, 2.0) == {Head(1, 2): "inhibition", Head(2, 1): "negative mover"}
