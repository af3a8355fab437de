"""What results call their examples."""

from __future__ import annotations

from typing import Any

import pytest

import workbench as wb
from workbench.example_names import examples_of, sample_facts, task_of
from workbench.plotting import style
from workbench.plotting.source import Source
from workbench.runs.sweep_run import summary


def test_a_sweep_over_samples_names_their_classes_and_seeds() -> None:
    loaded: Any = wb.load("digits-dit")
    model = loaded.resampled(steps=2, guidance=0.0)
    pairs = wb.latents(3, other=8, n=3, seed=4)
    sweep = wb.sweep(model, pairs, metric="contrast", layers=[0], heads=[0], cache=False)
    text, what = style.chart_text(sweep, "mean_delta"), "class 3, other class 8, seed 4 to 6"
    assert text.title == f"digits-dit · {what} · n = 3" and "use more samples" in text.note
    assert what in repr(sweep) and f"digits-dit, {what}: patch z" in summary(sweep)
    assert text.source is not None
    assert text.source.caption.startswith(f"digits-dit · {what}, sampler euler, steps 2, guidance 0.0, readout pixels")


@pytest.mark.parametrize(
    ("clean", "corrupt", "expected"),
    [
        ([("3", 0)], [("3", 0)], {"class": "3", "seed": "0"}),
        ([("3", 0), ("5", 1)], [("3", 9), ("5", 10)], {"class": "3, 5", "seed": "0 to 1", "other seed": "9 to 10"}),
        ([("3", 0), (None, 2)], [("8", 0), ("8", 2)], {"class": "3, none", "other class": "8", "seed": "0, 2"}),
    ],
)  # fmt: skip
def test_facts_of_samples(clean: Any, corrupt: Any, expected: dict[str, str]) -> None:
    runs = [
        {"clean": {"class": a, "seed": s}, "corrupt": {"class": b, "seed": t}}
        for (a, s), (b, t) in zip(clean, corrupt, strict=True)
    ]
    assert sample_facts({"sampler": "euler", "task": "latents", "inputs": {"examples": runs}}) == expected


def test_other_examples_keep_the_name_of_their_task() -> None:
    images = {"task": "digits", "inputs": {"processor": {}, "examples": [{"clean": {"name": "a"}, "corrupt": {}}]}}
    assert (examples_of(images), task_of(images)) == ("images", "digits")
    assert (examples_of({"task": "ioi"}), task_of({"task": "ioi"})) == ("prompts", "ioi")
    assert (examples_of({"inputs": {}}), task_of({"sampler": "ddim", "task": "own"})) == ("examples", "own")
    assert Source.of_info({"model": "tiny", "task": "ioi"}).fields()["task"] == "ioi"
