"""The rules of the findings besides circuit-reuse: verdicts follow from numbers, roles from what heads do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from circuits.findings import circuit_repair, faithfulness, head_ablation, ioi_circuit
from circuits.ioi.roles import ROLES, attention, has_role, uniform
from circuits.task_pairs import reference, with_company
from tests.families import paired
from workbench.core import Head
from workbench.inputs.paired import PairedInputs


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
    repaired = {"gain": gain, "gain_low": low, "gain_high": high}
    assert circuit_repair.decide(repaired, {"edits": "random", "accuracy": 0.4}, beyond)[0] == verdict


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
    assert head_ablation.decide(pd.DataFrame({"low": correlations}), low, high)[0] == verdict


def test_the_orders_are_each_others_reverse_and_random_ones_differ() -> None:
    drop = np.array([[0.1, 3.0], [-1.0, 0.5]])
    found = head_ablation.orders(drop, 2, seed=0)
    assert [str(h) for h in found[head_ablation.MOST]] == ["0.1", "1.1", "0.0", "1.0"]
    assert found[head_ablation.LEAST] == found[head_ablation.MOST][::-1]
    assert all(sorted(heads) == sorted(found[head_ablation.MOST]) for heads in found.values()) and len(found) == 4


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
    faithful = {"share": share, "low": low, "high": high}
    assert faithfulness.decide(faithful, np.array(at_random))[0] == verdict


def test_minimality_looks_at_magnitudes() -> None:
    whole = np.full(5, 2.0)
    assert faithfulness._size(np.full(5, -1.0), whole) == pytest.approx({"share": 0.5, "low": 0.5, "high": 0.5})
    sided = faithfulness._size(np.array([-1.0, 1.0, -1.0, 1.0, 0.5]), whole)
    assert sided["low"] == 0 and sided["share"] > 0


SEEN = {
    ("end", "IO"): np.full(6, 0.6),
    ("end", "S1"): np.full(6, 0.1),
    ("end", "S2"): np.full(6, 0.1),
    ("S2", "S1"): np.full(6, 0.5),
    ("S2", "S1+1"): np.full(6, 0.05),
    ("S1+1", "S1"): np.full(6, np.nan),
}


def test_roles_ask_for_sign_attention_and_writing() -> None:
    by_name = {role.name: role for role in ROLES}

    def holds(name: str, effect: float, copies: float = 0.0, suppresses: float = 0.0, **seen: Any) -> bool:
        return has_role(by_name[name], effect, SEEN | seen.get("seen", {}), 0.07, copies, suppresses)

    assert holds("mover", 0.3, copies=0.9)
    assert not holds("mover", -0.3, copies=0.9)  # it works against the answer
    assert not holds("mover", 0.3, copies=0.2)  # it does not write what it reads
    elsewhere = {("end", "IO"): np.full(6, 0.1), ("end", "S2"): np.full(6, 0.6)}
    assert not holds("mover", 0.3, copies=0.9, seen=elsewhere)
    assert holds("subject suppressor", 0.3, suppresses=0.9, seen=elsewhere)
    assert holds("negative mover", -0.3, suppresses=0.9)
    assert holds("inhibition", 0.3, seen=elsewhere) and not holds("inhibition", 0.3)
    assert holds("duplicate-token", 0.1) and not holds("induction", 0.1)
    assert not holds("previous-token", 0.1)  # the place is not seen
    unsure = {("end", "IO"): np.array([0.6, 0.0, 0.0, 0.0, 0.0, 0.0])}
    assert not holds("mover", 0.3, copies=0.9, seen=unsure)


def test_attention_is_read_at_named_places() -> None:
    inputs = paired(2)
    patterns = [np.random.default_rng(i).random((len(ids), len(ids))) for i, ids in enumerate(inputs.clean)]
    found = attention(patterns, inputs, "end", "S")
    assert found[0] == patterns[0][inputs.positions[0]["end"], inputs.positions[0]["S"]]
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
    described: Any = [SimpleNamespace(role=role) for role in roles]
    assert ioi_circuit.decide(described)[0] == verdict


def test_prompts_in_company_and_references() -> None:
    inputs = paired(5, lengths=(9, 9, 11, 9, 13))
    assert [len(ids) for ids in with_company(inputs).clean] == [9, 9, 9]

    class Few:
        def inputs(self, *_: Any, **__: Any) -> PairedInputs:
            raise wb.WorkbenchError("never asked")

    model: Any = SimpleNamespace(tokenizer=None, cfg=SimpleNamespace(n_ctx=64))
    task: Any = Few()
    assert reference(model, task, inputs, n=5) is inputs


def test_repairing_heads_are_inhibition_and_negative_movers() -> None:
    effect = np.zeros((3, 4))
    effect[2, 1], effect[1, 3] = -0.5, 0.4
    top = [Head(2, 1), Head(1, 3)]
    query = SimpleNamespace(effect=np.where(np.arange(12).reshape(3, 4) == 6, 0.3, 0.0))
    logits = SimpleNamespace(effect=effect, sweep=SimpleNamespace(top=lambda percent: top))
    stages: Any = SimpleNamespace(done={"logits": logits, "mover-query": query})
    found = circuit_repair.repairing(stages, 2.0)
    assert found == {Head(1, 2): "inhibition", Head(2, 1): "negative mover"}
