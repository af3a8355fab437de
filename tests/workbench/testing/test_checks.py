"""The checks that authors call say everything that is wrong, and what to write instead."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch

import workbench as wb
from tests.families import FAMILIES, nudged
from workbench.inputs.pairs import Pair
from workbench.registry import FINDINGS
from workbench.testing import check_finding, check_model, check_task

IOI = wb.task("ioi")
NAMES = [f"{a}{b}{c}" for a in "BDFGKLMNPRST" for b in "aeiou" for c in "lmnr"]


def draw(rng: random.Random, **changes: Any) -> Pair:
    left, right = rng.sample(NAMES, 2)
    clean, corrupt = (f"So {left} met {right}. {name} greeted" for name in (right, left))
    words: dict[str, Any] = {"answer": f" {left}", "wrong": f" {right}", "options": (f" {left}", f" {right}")}
    return Pair(clean, corrupt, **{**words, **changes})


def task(draw: Any = draw, **fields: Any) -> wb.Task:
    plain: dict[str, Any] = {"name": "greeting", "title": "Greeting", "question": "Who?", "stages": {"logits": "end"}}
    return wb.Task(draw=draw, **{**plain, **fields})


def problems(check: Any, *subjects: Any) -> list[str]:
    with pytest.raises(AssertionError) as raised:
        check(*subjects)
    return str(raised.value).splitlines()[1:]


def test_a_whole_task_passes() -> None:
    check_task(task())
    check_task("ioi")


def few(rng: random.Random) -> Pair:
    left, right = rng.sample(["Ann", "Tom", "Sue"], 2)
    return Pair(f"So {left} met {right}", f"So {right} met {left}", (f" {left}",), (f" {right}",))


def test_all_problems_of_a_task_are_named_at_once() -> None:
    lines = problems(check_task, task(few, title="", question="Who greets", stages={}, relation="far"))
    for expected in (
        "title is empty",
        "not a question",
        "'far'",
        "draws 6 different pairs",
        "has no options",
        "stages={}",
    ):
        assert sum(expected in line for line in lines) == 1, expected
    assert "options=(' " in str(lines)
    assert 'stages={"logits": "end", "mover-query": "end"}' in str(lines)


def global_numbers(rng: random.Random) -> Pair:
    return draw(random.Random(random.random()))


def unnamed(rng: random.Random) -> Pair:
    return draw(rng, positions={"left": (3, 6)}, corrupt_positions={"left": (3, 6)})


def misplaced(rng: random.Random) -> Pair:
    return draw(rng, positions={"left": (3, 6)}, corrupt_positions={"left": (0, 2)})


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (task(global_numbers), "global random numbers"),
        (task(lambda rng: draw(rng, answer=3)), "answer=3: expected texts"),
        (task(lambda rng: draw(rng, wrong=())), "wrong=(): expected texts"),
        (task(lambda rng: draw(rng, wrong=" Ann", answer=" Ann")), "They must differ"),
        (task(lambda rng: draw(rng, options=(" Ann",))), "among its options"),
        (task(lambda rng: None), "draw returns NoneType"),
        (task(lambda rng: 1 / 0), "ZeroDivisionError"),
        (task(unnamed), "Declare those of the pairs"),
        (task(misplaced, positions=("left", "end")), "token"),
        (task(stages={"logits": "end", "mover": "end"}), "stages names 'mover'"),
        (task(stages={"logits": "end", "earlier": "S1"}), "not in positions"),
        (replace(IOI, stages={"logits": "end", "mover-value": "S1"}, variants={}), "nothing can change there"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_problem_of_a_task_is_named(subject: wb.Task, expected: str) -> None:
    assert expected in "\n".join(problems(check_task, subject))


def test_a_setting_is_named_with_its_problem() -> None:
    variants = {"order": {"plain": {}, "odd": {"stages": {"logits": "start"}}}}
    lines = problems(check_task, task(lambda rng, order: draw(rng), variants=variants))
    assert lines and all("with order='odd'" in line for line in lines)


def test_a_finding_that_states_nothing_is_told_what_to_state() -> None:
    ablation: wb.Finding = FINDINGS["head-ablation"]
    lines = problems(check_finding, replace(ablation, question="Which", claim="", thresholds={}, defaults={"k": 1}))
    for expected in ("question='Which'", "claim=''", "thresholds is empty", "no 'n' and no 'seed'"):
        assert expected in "\n".join(lines)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_passes(family: str) -> None:
    check_model(nudged(family))


def test_a_model_that_is_not_what_it_says_is_found_out() -> None:
    model = wb.HookedLM(nudged("llama"))
    handle = model.hf.model.layers[1].register_forward_hook(lambda *_: None)
    assert "forward hooks" in problems(check_model, model)[0]
    handle.remove()
    model.d_model *= 2
    assert "hook_resid_pre has the shape" in "\n".join(problems(check_model, model))
    with pytest.raises(AssertionError, match="cannot be wrapped"):
        check_model(torch.nn.Linear(2, 2))
