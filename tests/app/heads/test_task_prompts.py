"""Heads scored on a task's prompts."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import workbench as wb
from app.heads import task_scores
from app.work.worker import Worker
from tests.app.heads.rendered import SCRIPT, TIMEOUT, Queue, grids, opened, patterns, values
from workbench.patching.resolve import resolve_inputs
from workbench.plotting.attention_view import visible

PROMPTS: dict[str, Any] = {"task": "ioi", "n": 3, "seed": 4}
QUERY = {"scored": task_scores.TASK, "n": "3", "seed": "4", "head": "1.2"}


def test_the_grid_has_the_mean_over_the_prompts_with_its_interval(app: AppTest, queue: Queue) -> None:
    opened(app, score="previous_token", **QUERY)
    (key, request), out = queue.requests[-1], io.StringIO()
    assert request == {"kind": "task_scores", "model": "tiny", "prompts": PROMPTS, "label": "scores on ioi"}
    assert np.isnan(values(grids(app)["grid"])).all() and "background" in grids(app)["grid"]["note"]
    Worker(out).execute({**request, "id": 1, "key": key})
    queue.job = replace(queue.job, state="done", path=json.loads(out.getvalue().splitlines()[-1])["path"])
    app.run()
    model, task = wb.load("tiny"), wb.task("ioi", n=3, seed=4)
    scores = wb.scores_on(model, task, cache=False)
    grid = grids(app)["grid"]
    np.testing.assert_allclose(values(grid), scores["previous_token"], atol=1e-5)
    low, high = scores.interval("previous_token")
    assert f"[{low[1, 2]:.3g}, {high[1, 2]:.3g}]" in grid["texts"][2][1]
    assert "mean over 3 prompts of ioi" in grid["title"]
    assert "The side bar’s prompt is not used here." in [caption.value for caption in app.caption]
    assert grid["levels"] == [pytest.approx(scores.uniform["previous_token"])]
    app.selectbox(key="score").set_value("direct_logit_attribution").run()
    grid = grids(app)["grid"]
    np.testing.assert_allclose(values(grid), scores["direct_logit_attribution"], atol=1e-5)
    assert grid["low"] == -grid["high"] and "the answer’s logit" in grid["note"]
    again = opened(AppTest.from_string(SCRIPT, default_timeout=TIMEOUT), **app.query_params)
    assert grids(again)["grid"] == grid and len(queue.requests) == 1  # from the URL alone


def test_the_data_of_the_grid_have_the_intervals_and_one_prompt_has_none() -> None:
    scores = wb.scores_on(wb.load("tiny"), wb.task("ioi", n=3, seed=4), cache=False)
    score = task_scores.mean_score(scores, "sink")
    assert (score.metadata["task"], score.metadata["n"], score.metadata["seed"]) == (
        "ioi",
        3,
        4,
    ) and "rough" in score.note
    assert f"Mean over 3 prompts ({scores.positions['sink']} positions in all)." in score.note
    assert task_scores.mean_score(scores, "induction").signed
    np.testing.assert_array_equal(score.data()["low"], scores.interval("sink")[0].T)
    np.testing.assert_array_equal(score.ranking()["low"], scores.ranking("sink")["low"])
    alone = task_scores.mean_score(wb.scores_on(wb.load("tiny"), wb.task("ioi", n=1), cache=False), "sink")
    assert (
        alone.low is None
        and "no interval" in alone.note
        and alone.texts is not None
        and "nan" not in "".join(alone.texts.ravel())
    )


def test_one_of_the_prompts_is_shown_in_detail(app: AppTest) -> None:
    opened(app, score="similarity", closely="2", **QUERY)
    inputs = resolve_inputs(wb.task("ioi", n=3, seed=4), wb.load("tiny"))
    attention = wb.attention_view(wb.load("tiny"), inputs.texts[1][0], 1, 2)
    canvas = patterns(app)["pattern"]
    np.testing.assert_allclose(canvas["values"], attention.pattern, atol=1e-5)
    assert [label.split(" ", 1)[1] for label in canvas["columns"]] == [visible(token) for token in attention.tokens]
    assert app.selectbox(key="closely").value == "2"
    app.number_input(key="n").set_value(1).run()  # there is no second one any more
    assert not app.exception and app.selectbox(key="closely").value == "1"


def test_the_side_bars_prompt_may_then_be_empty(app: AppTest) -> None:
    opened(app, prompt="", **QUERY)
    assert not app.error and "grid" in grids(app)


def test_a_task_in_which_no_token_repeats_says_so() -> None:
    pairs = wb.pairs(clean=["Mary went to"], corrupt=["John went to"], answer=[" the"], wrong=[" John"])
    score = task_scores.mean_score(wb.scores_on(wb.load("tiny"), pairs, cache=False), "induction")
    assert np.isnan(score.values).all() and "occurs twice" in score.note
