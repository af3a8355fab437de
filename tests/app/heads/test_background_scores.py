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
from tests.app.heads.rendered import SCRIPT, Queue, grids, opened, values


def asked_for() -> tuple[str, dict[str, Any]]:
    return model_scores.key("tiny"), {"kind": "scores", "model": "tiny", "label": "scores of the weights"}


def computed() -> Path:
    """What the worker leaves."""
    (key, job), out = asked_for(), io.StringIO()
    Worker(out).execute({**job, "id": 1, "key": key})
    return Path(json.loads(out.getvalue().splitlines()[-1])["file"])


def test_a_score_of_weights_is_asked_of_the_worker_and_comes_when_it_is_done(app: AppTest, queue: Queue) -> None:
    opened(app, score="copy_score")
    assert queue.asked == [asked_for()]
    assert np.isnan(values(grids(app)["grid"])).all() and "background" in grids(app)["grid"]["note"]
    assert len(app.get("progress")) == 1 and "2 of 6" in str(app.get("progress")[0].proto.text)
    queue.now = replace(queue.now, state="done", file=str(computed()))
    app.run()
    assert not app.exception and not app.get("progress") and len(queue.asked) == 1
    grid = grids(app)["grid"]
    np.testing.assert_allclose(values(grid), copy_scores(), atol=1e-4)
    random = wb.scores(wb.load("tiny")).random["copy_score"]
    low, high = random.mean(), np.percentile(random, 95)
    assert grid["levels"] == [pytest.approx(low), pytest.approx(high)]
    assert f"random weights {low:.3g}" in grid["note"] and f"95th percentile {high:.3g}" in grid["note"]
    assert any("Copy score" in str(caption.value) for caption in app.caption)  # the summary has it, too
    again = opened(AppTest.from_string(SCRIPT, default_timeout=120), score="copy_score")
    assert grids(again)["grid"] == grid and len(queue.asked) == 1  # another session has it at once


@torch.no_grad()
def copy_scores() -> np.ndarray:
    """From all eigenvalues of the vocabulary's whole OV matrix A B: those of B A, and zeros."""
    hf = wb.load("tiny").hf
    ends, found = hf.lm_head.weight * hf.model.norm.weight, []
    for layer in hf.model.layers:
        attention, n = layer.self_attn, hf.config.num_attention_heads
        gives = attention.o_proj.weight.unflatten(1, (n, -1))
        takes = attention.v_proj.weight.unflatten(0, (hf.config.num_key_value_heads, -1))
        takes = takes.repeat_interleave(n // len(takes), 0) * layer.input_layernorm.weight
        for j in range(n):
            a, b = (hf.model.embed_tokens.weight @ takes[j].T).double(), (gives[:, j].T @ ends.T).double()
            eigenvalues = np.linalg.eigvals((b @ a).numpy())
            if not found:  # once as it is said; this takes seconds
                every = np.linalg.eigvals((a @ b).numpy())
                assert np.abs(every).sum() == pytest.approx(np.abs(eigenvalues).sum(), rel=1e-6)
                assert every.real.sum() == pytest.approx(eigenvalues.real.sum(), rel=1e-6)
            found.append(eigenvalues.real.sum() / np.abs(eigenvalues).sum())
    return np.array(found).reshape(len(hf.model.layers), -1)


def test_every_score_of_the_background_has_a_chance_level_and_texts(queue: Queue) -> None:
    scores = wb.scores(wb.load("tiny"))
    known = model_scores.ModelScores(scores, {row["score"]: row for row in scores.chance().to_dict("records")})
    for listed, (name, label) in LISTED.items():
        score = model_scores.score(known, listed)
        np.testing.assert_array_equal(score.values, scores[name])
        assert "random weights" in score.note and len(score.levels) >= 2 and LABELS[listed] == label
        assert score.texts is not None and score.texts.shape == score.values.shape
        assert ("95 % [" in score.texts[1, 0]) == (name in scores.samples)
    induction = model_scores.score(known, "repeated_induction")
    low, high = scores.interval("induction")
    assert induction.texts is not None
    assert f"[{low[1, 2]:.3g}, {high[1, 2]:.3g}]" in induction.texts[1, 2]
    composition = model_scores.score(known, "q_composition")
    row = scores.pairs["q_composition"][scores.heads.index("1.0")]
    assert composition.texts is not None
    assert composition.texts[1, 0].endswith(f"with {scores.heads[int(np.nanargmax(row))]}")


def test_damaged_scores_are_dropped_and_offered_again(app: AppTest, queue: Queue) -> None:
    path = computed()
    path.write_bytes(path.read_bytes()[:-9])
    opened(app)
    assert "damaged" in app.warning[0].value and not path.exists() and queue.asked == []
    assert not app.run().warning and app.button(key="begin-scores-tiny")


def test_a_job_that_failed_says_why_and_can_be_begun_again(app: AppTest, queue: Queue) -> None:
    queue.now = replace(queue.now, state="failed", why="no [room] left")
    opened(app, score="ov_norm")
    assert "room" in app.error[0].value
    app.button(key="begin-scores-tiny").click().run()
    assert not app.exception and len(queue.asked) == 2 and app.get("progress")


def test_the_summary_asks_for_the_rest_of_the_weights_only_when_told(app: AppTest, queue: Queue) -> None:
    opened(app)
    assert queue.asked == []
    app.button(key="begin-scores-tiny").click().run()
    assert len(queue.asked) == 1 and app.get("progress")
    queue.now = replace(queue.now, state="done", file=str(computed()))
    app.run()
    assert not app.exception and any("Copy score" in str(caption.value) for caption in app.caption)
