"""Scores of the weights, which the worker computes in the background."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

import workbench as wb
from app.heads import model_scores
from app.heads.model_scores import LISTED
from app.heads.score_grid import LABELS
from app.work.worker import Worker
from tests.app.heads.rendered import SCRIPT, TIMEOUT, Queue, grids, opened, values


def request() -> tuple[str, dict[str, Any]]:
    work = model_scores.background("tiny")
    return work.key, {"kind": work.kind, **work.request}


def computed() -> Path:
    """The file that the worker leaves."""
    (key, job), out = request(), io.StringIO()
    Worker(out).execute({**job, "id": 1, "key": key})
    return Path(json.loads(out.getvalue().splitlines()[-1])["path"])


def test_a_score_of_weights_is_requested_from_the_worker_and_shown_when_it_is_done(app: AppTest, queue: Queue) -> None:
    opened(app, score="copy_score")
    assert queue.requests == [request()]
    assert np.isnan(values(grids(app)["grid"])).all() and "background" in grids(app)["grid"]["note"]
    assert len(app.get("progress")) == 1 and "2 of 6" in str(app.get("progress")[0].proto.text)
    queue.job = replace(queue.job, state="done", path=str(computed()))
    app.run()
    assert not app.exception and not app.get("progress") and len(queue.requests) == 1
    grid = grids(app)["grid"]
    np.testing.assert_allclose(values(grid), copy_scores(), atol=1e-4)
    random = wb.scores(wb.load("tiny")).random["copy_score"]
    low, high = random.mean(), np.percentile(random, 95)
    assert grid["levels"] == [pytest.approx(low), pytest.approx(high)]
    assert f"random weights {low:.3g}, 95th percentile of random weights {high:.3g}".replace("-", "−") in grid["note"]
    assert any("Copy score" in str(caption.value) for caption in app.caption)  # the summary has it, too
    again = opened(AppTest.from_string(SCRIPT, default_timeout=TIMEOUT), score="copy_score")
    assert grids(again)["grid"] == grid and len(queue.requests) == 1  # another session has it at once


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"scored": "a task", "n": "100000"}, "n=100000, which is out of range (1 to 200). Showing 12."),
        ({"scored": "a task", "n": "-3"}, "n=-3, which is out of range (1 to 200). Showing 12."),
        ({"scored": "a task", "n": "5.5"}, "n=5.5, which is not an option. Showing 12."),
        ({"scored": "a task", "n": "9" * 400}, "which is not an option. Showing 12."),
        ({"scored": "a task", "task": "iio"}, "task=iio, which is not an option. Showing ioi."),
        ({"scored": "a task", "seed": "1e9"}, "seed=1e9, which is not an option. Showing 0."),
        ({"score": "copy_score", "model": "other"}, "model=other, which is not an option. Showing tiny."),
    ],
)
def test_a_link_that_cannot_be_used_starts_nothing_long(
    app: AppTest, queue: Queue, query: dict[str, str], named: str
) -> None:
    opened(app, **query)
    assert len(app.warning) == 1 and named in app.warning[0].value.replace("\\", "")
    app.run()
    assert queue.requests == [] and "when you press the button" in grids(app)["grid"]["note"]
    label = "Compute the scores on the task" if "scored" in query else "Compute the scores of all heads"
    (button,) = [button for button in app.button if button.label == label]
    button.click().run()
    assert len(queue.requests) == 1 and not app.warning


def test_another_value_than_the_one_that_stands_in_starts_as_usual(app: AppTest, queue: Queue) -> None:
    opened(app, scored="a task", n="100000")
    app.number_input(key="n").set_value(3).run()
    assert [request["prompts"]["n"] for _, request in queue.requests] == [3]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"all-patterns": "yes", "patterns-count": "1e9"}, "patterns-count=1e9"),
        (
            {"all-patterns": "yes", "patterns-order": "by the selected score", "patterns-count": "-1"},
            "patterns-count=-1",
        ),
        ({"patterns-count": "1.5"}, "patterns-count=1.5"),
        ({"patterns-order": "backwards"}, "patterns-order=backwards"),
        ({"n": "1e9"}, "n=1e9"),
        ({"seed": "-1"}, "seed=-1"),
        ({"task": "iio"}, "task=iio"),
        ({"over": "median"}, "over=median"),
    ],
)
def test_a_value_of_what_is_not_shown_is_named_too(app: AppTest, query: dict[str, str], named: str) -> None:
    opened(app, **query)
    assert [f"The URL has {named}, which is" in w.value.replace("\\", "") for w in app.warning] == [True]
    name, _, value = named.partition("=")
    assert app.query_params.get(name) not in (value, [value])
    assert not app.run().warning


@torch.no_grad()
def copy_scores() -> np.ndarray:
    """From all eigenvalues of the vocabulary's whole OV matrix A B: those of B A, and zeros."""
    hf = wb.load("tiny").hf
    ends, scores = hf.lm_head.weight * hf.model.norm.weight, []
    for layer in hf.model.layers:
        attention, n = layer.self_attn, hf.config.num_attention_heads
        gives = attention.o_proj.weight.unflatten(1, (n, -1))
        takes = attention.v_proj.weight.unflatten(0, (hf.config.num_key_value_heads, -1))
        takes = takes.repeat_interleave(n // len(takes), 0) * layer.input_layernorm.weight
        for j in range(n):
            a, b = (hf.model.embed_tokens.weight @ takes[j].T).double(), (gives[:, j].T @ ends.T).double()
            eigenvalues = np.linalg.eigvals((b @ a).numpy())
            if not scores:  # once by the definition, which takes seconds
                every = np.linalg.eigvals((a @ b).numpy())
                assert np.abs(every).sum() == pytest.approx(np.abs(eigenvalues).sum(), rel=1e-6)
                assert every.real.sum() == pytest.approx(eigenvalues.real.sum(), rel=1e-6)
            scores.append(eigenvalues.real.sum() / np.abs(eigenvalues).sum())
    return np.array(scores).reshape(len(hf.model.layers), -1)


def test_every_score_of_the_background_has_a_chance_level_and_texts(queue: Queue) -> None:
    scores = wb.scores(wb.load("tiny"))
    of_model = model_scores.ModelScores(scores, {row["score"]: row for row in scores.chance().to_dict("records")})
    for listed, (name, label) in LISTED.items():
        score = model_scores.score(of_model, listed)
        np.testing.assert_array_equal(score.values, scores[name])
        assert "random weights" in score.note and len(score.levels) >= 2 and LABELS[listed] == label
        assert score.texts is not None and score.texts.shape == score.values.shape
        assert ("95 % [" in score.texts[1, 0]) == (name in scores.samples)
    induction = model_scores.score(of_model, "repeated_induction")
    low, high = scores.interval("induction")
    assert induction.texts is not None
    assert f"[{low[1, 2]:.3g}, {high[1, 2]:.3g}]" in induction.texts[1, 2]
    composition = model_scores.score(of_model, "q_composition")
    row = scores.pairs["q_composition"][scores.heads.index("1.0")]
    assert composition.texts is not None
    assert composition.texts[1, 0].endswith(f"with {scores.heads[int(np.nanargmax(row))]}")


def test_damaged_scores_are_deleted_and_can_be_computed_again(app: AppTest, queue: Queue) -> None:
    path = computed()
    path.write_bytes(path.read_bytes()[:-9])
    opened(app)
    assert "damaged" in app.warning[0].value and not path.exists() and queue.requests == []
    assert not app.run().warning and app.button(key="start-scores")


def test_a_failed_job_says_why_and_can_be_started_again(app: AppTest, queue: Queue) -> None:
    queue.job = replace(queue.job, state="failed", error="no [room] left")
    opened(app, score="ov_norm")
    assert "room" in app.error[0].value
    app.button(key="start-scores").click().run()
    assert not app.exception and len(queue.requests) == 2 and app.get("progress")


def test_the_summary_requests_the_scores_only_by_its_button(app: AppTest, queue: Queue) -> None:
    opened(app)
    assert queue.requests == []
    app.button(key="start-scores").click().run()
    assert len(queue.requests) == 1 and app.get("progress")
    queue.job = replace(queue.job, state="done", path=str(computed()))
    app.run()
    assert not app.exception and any("Copy score" in str(caption.value) for caption in app.caption)
