"""The finding circuit-reuse: gate, stages, tables, verdict, published heads — on random models and made-up numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from circuits.distinct import how_many_like
from circuits.findings import circuit_reuse
from circuits.reuse import tables
from circuits.reuse.verdict import DISTANT, IOI, RELATIVES, decide, kind_of, pairs_of
from circuits.split_half import split_halves
from circuits.stage_names import ROLES, STAGES, role_of
from circuits.stages import STEPS, Stage, run_stages, top_receivers
from tests.families import hooked, paired
from workbench.core import Head
from workbench.errors import BadInput, UnknownName
from workbench.findings.gate import gate
from workbench.inputs.paired import PairedInputs
from workbench.patching.path import path_patch
from workbench.results.sweep import Sweep

POSITIONS = {"logits": "end", "mover-value": "S", "mover-query": "end", "earlier": "S"}


def solved(n: int = 8, seed: int = 0, name: str = "random") -> PairedInputs:
    """Random pairs that a random model "does": it says the answer to the clean one, the wrong one to the corrupt."""
    model, inputs = hooked("llama"), paired(n, seed=seed)

    def most_likely(ids: torch.Tensor, but: int = -1) -> int:
        logits = model(ids[None])[0, -1].clone()
        if but >= 0:
            logits[but] = -torch.inf
        return int(logits.argmax())

    answers = [most_likely(ids) for ids in inputs.clean]
    wrongs = [most_likely(ids, but) for ids, but in zip(inputs.corrupt, answers, strict=True)]
    return replace(
        inputs,
        name=name,
        answer=tuple((a,) for a in answers),
        wrong=tuple((w,) for w in wrongs),
        options=tuple(zip(answers, wrongs, strict=True)),
    )


def stage_of(means: np.ndarray, n: int = 6) -> Stage:
    """A stage whose mean deltas are `means`; the gap is −1."""
    values = np.repeat(means[..., None], n, axis=-1)
    sweep = Sweep(values=values, base=np.zeros(n), source=-np.ones(n), axes=("layer", "head"))
    return Stage("ioi", "logits", "end", None, sweep)


# --- gate


def test_a_task_that_the_model_does_passes() -> None:
    result = gate(hooked("llama"), solved(), "near")
    assert result.passed and result.status == "done" and result.reason == ""
    assert result.accuracy == 1 and result.top_1 == 1 and result.chance == 0.5 and result.n == 8
    assert result.accuracy_low > 0.5 and result.gap_high < 0


def test_the_gate_measures_what_path_patching_measures() -> None:
    inputs = solved(9)
    result, stage = gate(hooked("llama"), inputs, "near"), path_patch(hooked("llama"), inputs)
    assert result.base == pytest.approx(stage.base.mean(), abs=1e-4)
    assert stage.gap is not None and result.gap == pytest.approx(stage.gap.mean(), abs=1e-4)
    ratio = stage._ratio
    assert ratio is not None and (result.gap_low, result.gap_high) == pytest.approx(
        (ratio.gap_low, ratio.gap_high), abs=1e-3
    )


def test_chance_accuracy_does_not_pass() -> None:
    inputs = solved()
    half = [pair if i % 2 else pair[::-1] for i, pair in enumerate(zip(inputs.answer, inputs.wrong, strict=True))]
    result = gate(
        hooked("llama"), replace(inputs, answer=tuple(a for a, _ in half), wrong=tuple(w for _, w in half)), "near"
    )
    assert not result.passed and result.status == "not done by this model"
    assert "0.50" in result.reason and "chance" in result.reason


def test_three_prompts_are_too_few_to_tell() -> None:
    result = gate(hooked("llama"), solved().of([0, 1, 2]), "near")
    assert result.accuracy == 1 and not result.passed and result.status == "undecided with so few prompts"


def test_a_corruption_that_does_not_move_the_metric_does_not_pass() -> None:
    inputs = solved()
    result = gate(hooked("llama"), replace(inputs, corrupt=inputs.clean), "near")
    assert not result.passed and result.accuracy == 1 and "do not move the metric" in result.reason


# --- stages and roles


def test_receivers_are_the_strongest_of_one_sign() -> None:
    means = np.zeros((4, 5))
    means[3, 1], means[2, 0], means[1, 4], means[0, 2] = -0.5, +0.9, -0.2, -0.8
    # 10 % of 20 heads are 2. 2.0 works against the answer, and nothing lies below 0.2.
    assert top_receivers(stage_of(means), 10) == (Head(3, 1), Head(1, 4))
    assert top_receivers(stage_of(means), 1) == (Head(3, 1),)
    assert top_receivers(stage_of(-np.zeros((4, 5))), 10) == ()


def test_stages_hand_their_heads_on() -> None:
    inputs, seen = solved(), []
    result = run_stages(hooked("llama"), inputs, POSITIONS, 10, ready=lambda stage: seen.append(stage.name))
    assert seen == [step.name for step in STEPS] and result.left_out == {}
    movers = top_receivers(result.done["logits"], 10)
    assert result.done["mover-value"].receivers == result.done["mover-query"].receivers == movers
    assert result.done["earlier"].receivers == top_receivers(result.done["mover-query"], 10)
    expected = path_patch(hooked("llama"), inputs, movers, into="q", position="end")
    np.testing.assert_array_equal(result.scores["mover-query"], expected.delta)


def test_a_stage_that_cannot_be_run_says_why() -> None:
    result = run_stages(hooked("llama"), solved(), {"logits": "end", "earlier": "S"}, 10)
    assert set(result.done) == {"logits"}
    assert result.left_out["mover-value"] == "not applicable to this task"
    assert "'mover-query' was not run" in result.left_out["earlier"]


def test_every_stage_has_a_role_and_a_sign() -> None:
    assert set(ROLES) == set(STAGES) == {step.name for step in STEPS}
    assert role_of("logits", 0.3) == "mover" and role_of("logits", -0.3) == "negative mover"
    assert role_of("mover-query", 0.1) == "inhibition"


# --- verdict


def rows_of(
    near: tuple[float, float, float], distant: tuple[float, float, float], null_95: float = 0.1
) -> tuple[list, dict]:
    """Overlap rows for one near and one distant pair as (index, low, high), with resamples that have that interval."""
    pairs = {(IOI, RELATIVES[0]): near, (IOI, DISTANT[0]): distant}
    rows = [
        {"task_a": a, "task_b": b, "jaccard": index, "low": low, "high": high, "null_95": null_95}
        for (a, b), (index, low, high) in pairs.items()
    ]
    return rows, {pair: np.linspace(low, high, 101) for pair, (_, low, high) in pairs.items()}


@pytest.mark.parametrize(
    ("near", "distant", "verdict"),
    [
        ((0.6, 0.5, 0.7), (0.1, 0.0, 0.2), "supported"),
        ((0.4, 0.2, 0.6), (0.3, 0.1, 0.5), "undecided"),  # the intervals are not apart
        ((0.2, 0.05, 0.3), (0.02, 0.0, 0.04), "undecided"),  # the near pair's interval holds its null's 95th percentile
        ((0.1, 0.05, 0.3), (0.0, 0.0, 0.0), "not supported"),  # not above its null
        ((0.2, 0.15, 0.25), (0.6, 0.5, 0.7), "not supported"),  # the other way round
    ],
)
def test_the_verdict_follows_from_the_intervals(near: Any, distant: Any, verdict: str) -> None:
    judgement = decide(*rows_of(near, distant)).judgement
    assert judgement.verdict == verdict and judgement.reason


def test_without_near_or_distant_pairs_nothing_is_decided() -> None:
    rows, resampled = rows_of((0.6, 0.5, 0.7), (0.1, 0.0, 0.2))
    near_alone, distant_alone, none = (decide(part, resampled).judgement for part in (rows[:1], rows[1:], []))
    assert near_alone.verdict == "undecided" and "distant" in near_alone.reason
    assert distant_alone.verdict == none.verdict == "undecided"


def test_pairs_are_declared_by_name() -> None:
    assert kind_of((IOI, RELATIVES[2])) == kind_of((RELATIVES[0], RELATIVES[1])) == "near"
    assert kind_of((DISTANT[1], IOI)) == kind_of((RELATIVES[3], DISTANT[0])) == "distant"
    assert kind_of((DISTANT[0], DISTANT[1])) == kind_of((IOI, "colored-objects")) == kind_of((IOI, "mine")) == "other"
    kinds = [kind_of(pair) for pair in pairs_of(circuit_reuse.TASKS)]
    assert (kinds.count("near"), kinds.count("distant"), len(kinds)) == (10, 15, 36)
    assert kinds == sorted(kinds, key=("near", "distant", "other").index)


# --- split halves


def test_each_half_is_a_search_of_its_own() -> None:
    model, inputs, steps = hooked("llama"), solved(9), []
    whole = run_stages(model, inputs, POSITIONS, 10.0)
    halves = split_halves(model, inputs, POSITIONS, 10.0, whole, seed=1, progress=lambda *step: steps.append(step))
    assert halves is not None and halves.n == 4 and not set(halves.examples[0]) & set(halves.examples[1])
    for half, examples in zip((halves.one, halves.two), halves.examples, strict=True):
        alone = run_stages(model, inputs.of(examples), POSITIONS, 10.0)
        assert list(half.done) == list(alone.done)
        for name, stage in half.done.items():
            assert stage.receivers == alone.done[name].receivers and stage.sweep.n == stage.sweep.info["n"] == 4
            np.testing.assert_allclose(stage.sweep.values, alone.done[name].sweep.values, atol=1e-4)
    chosen = {half.done["mover-query"].receivers for half in (whole, halves.one, halves.two)}
    assert len(chosen) > 1 and steps and {name for name, _ in steps} <= set(POSITIONS) - {"logits"}


def test_halves_of_prompts_that_all_say_the_same_agree() -> None:
    model, one = hooked("llama"), solved(8).of([0] * 8)
    whole = run_stages(model, one, POSITIONS, 10.0)
    halves = split_halves(model, one, POSITIONS, 10.0, whole)
    assert halves is not None and halves.jaccard(10.0) == 1
    assert split_halves(model, one.of(range(3)), POSITIONS, 10.0, whole) is None


# --- tables


def test_shares_that_coincide_are_named() -> None:
    assert tables.coinciding(72) == "1 %, 2 % each keep 1 head"
    assert tables.coinciding(270) == ""


def test_batch_ratios_average_as_the_study_does() -> None:
    n, rng = 5, np.random.default_rng(0)
    values, base, source = rng.normal(size=(2, 3, n)), rng.normal(size=n), rng.normal(size=n) - 3
    stage = Stage("ioi", "logits", "end", None, Sweep(values=values, base=base, source=source, axes=("layer", "head")))
    one = (values[..., :3] - base[:3]).mean(-1) / (source - base)[:3].mean()
    two = (values[..., 3:] - base[3:]).mean(-1) / (source - base)[3:].mean()
    np.testing.assert_allclose(tables.batch_ratios(stage, 3), (one + two) / 2)
    rows = tables.stage_rows(stage, 10, batch=3)
    assert len(rows) == 1 and {"mean_effect", "mean_of_batch_ratios", "n", "smallest_p"} <= set(rows[0])
    assert "mean_of_batch_ratios" not in tables.stage_rows(stage, 10)[0]


# --- all of it


@dataclass(frozen=True)
class StubTask:
    """A task whose prompts are random ids."""

    name: str
    seed: int
    n: int = 8
    relation: str = "other"

    @property
    def stages(self) -> dict[str, str]:
        return POSITIONS if self.name != DISTANT[0] else {"logits": "end", "mover-query": "end"}

    def inputs(self, tokenizer: Any, max_length: int | None = None) -> PairedInputs:
        if self.name == RELATIVES[1]:
            raise BadInput("Task 'answered-by' does not apply to this tokeniser.")
        inputs = solved(self.n, self.seed, self.name)
        return inputs if self.name != RELATIVES[2] else replace(inputs, answer=inputs.wrong, wrong=inputs.answer)


class Recorded:
    """Progress that records steps and published figures."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.published: list[str] = []

    def __call__(self, done: int, total: int, what: str) -> None:
        self.steps.append((done, total))

    def publish(self, name: str, *, table: Any = None, figure: Any = None, picture: Any = None) -> None:
        self.published.append(name)
        assert figure is not None and picture is not None


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = {name: i for i, name in enumerate(circuit_reuse.TASKS)}
    monkeypatch.setattr("workbench.task", lambda name, n, seed: StubTask(name, seeds[name], n))


def test_the_whole_report(stubs: None) -> None:
    progress, chosen = Recorded(), [IOI, *RELATIVES[:3], DISTANT[0]]
    report = circuit_reuse.finding.report(hooked("llama"), {"n": 8, "tasks": chosen, "percent": 10.0}, progress)
    assert progress.published[0] == "stage-ioi-logits"
    done, totals = [d for d, _ in progress.steps], {t for _, t in progress.steps}
    assert done == sorted(done) and len(totals) == 1 and done[-1] == totals.pop()
    tasks = report.tables["tasks"].set_index("task")
    assert tasks["status"].to_dict() == {
        IOI: "done",
        RELATIVES[0]: "done",
        RELATIVES[1]: "does not apply",
        RELATIVES[2]: "not done by this model",
        DISTANT[0]: "done",
    }
    overlaps = report.tables["overlap"]
    assert {"task_a", "task_b", "shared", "union", "jaccard", "null", "p_value", "low", "high"} <= set(overlaps.columns)
    assert list(overlaps["pair"]) == ["near", "distant", "distant"]
    assert overlaps["stages"].iloc[1] == "logits, mover-query"
    assert set(report.tables["overlap_percent"]["percent"]) == {1, 2, 5, 10}
    heads = report.tables["heads"]
    assert set(heads["task"]) == {IOI, RELATIVES[0], DISTANT[0]} and all(heads["in_circuit"])
    assert set(heads.groupby(["task", "stage"]).size()) == {2}  # 10 % of 18 heads
    for name, table in report.tables.items():
        assert {"n", "n_a"} & set(table.columns), name
    assert set(report.figures) == set(report.pictures) and next(iter(report.figures)) == "overlap"
    assert set(tasks["n_half"]) == {4, 0} and list(tasks["split_half"].notna()) == list(tasks["status"] == "done")
    matrix = report.tables["cross_ablation"]
    assert len(matrix) == 9 and set(matrix["ablated"]) == set(matrix["measured"]) == set(heads["task"])
    circuits = {task: frozenset(map(Head.parse, rows["head"])) for task, rows in heads.groupby("task")}
    random_sets = {task: min(5, how_many_like(circuit, 6)) for task, circuit in circuits.items()}
    assert dict(zip(matrix["ablated"], matrix["random_sets"], strict=True)) == random_sets
    assert set(random_sets.values()) == {1, 5}  # one of the circuits leaves as many heads as it has
    assert "cross-ablation" in report.figures
    for words in (
        "chosen anew in each",
        "What ablating a circuit takes from a task",
        "not done by this model",
        "does not apply",
        "n = 8",
        "Near pairs",
        report.verdict.capitalize(),
        IOI,
    ):
        assert words in report.summary
    assert "published_heads" not in report.tables and " nan" not in report.summary


def test_a_run_can_be_repeated(stubs: None) -> None:
    settings = {"n": 6, "tasks": [IOI, RELATIVES[0]], "percent": 10.0}
    one, two = (circuit_reuse.finding.report(hooked("llama"), settings) for _ in range(2))
    for name, table in one.tables.items():
        pd.testing.assert_frame_equal(table, two.tables[name])
    assert one.summary == two.summary and one.facts == two.facts


def test_a_single_prompt_and_a_single_task_still_report(stubs: None) -> None:
    report = circuit_reuse.finding.report(hooked("llama"), {"n": 1, "tasks": [IOI]})
    assert report.verdict == "not judged" and "undecided with so few prompts" in report.summary
    assert len(report.tables["overlap"]) == 0 and "jaccard" in report.tables["overlap"].columns


def test_published_heads_are_shown_beside_ours(stubs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(hooked("llama").provenance, "name", "gpt2-medium")
    report = circuit_reuse.finding.report(hooked("llama"), {"n": 8, "tasks": [IOI, RELATIVES[0]]})
    assert "arXiv 2310.08744" in report.summary and "published 0.78, measured not computed" in report.summary
    assert not any(report.tables["published_heads"]["in_circuit"])
    assert "mean_of_batch_ratios" in report.tables["stages"].columns


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UnknownName, match="percent"):
        circuit_reuse.finding.report(hooked("llama"), {"percentage": 2})
