"""Heads scored on a task's prompts."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

import workbench as wb
from app.heads import head_task
from app.work.worker import Worker
from tests.app.heads.shown import SCRIPT, Queue, figures, grids, opened, values
from workbench.patching.resolve import resolve_inputs
from workbench.plotting.attention_view import visible

ASKED: dict[str, Any] = {"task": "ioi", "n": 3, "seed": 4}
LINK = {"scored": head_task.TASK, "n": "3", "seed": "4", "head": "1.2"}


def test_the_grid_has_the_mean_over_the_prompts_with_its_interval(app: AppTest, queue: Queue) -> None:
    opened(app, score="previous_token", **LINK)
    (key, job), out = queue.asked[-1], io.StringIO()
    assert job == {"kind": "task_scores", "model": "tiny", "prompts": ASKED, "label": "scores on ioi"}
    assert np.isnan(values(grids(app)["grid"])).all() and "background" in grids(app)["grid"]["note"]
    Worker(out).do({**job, "id": 1, "key": key})
    queue.now = replace(queue.now, state="done", file=json.loads(out.getvalue().splitlines()[-1])["file"])
    app.run()
    model, task = wb.load("tiny"), wb.task("ioi", n=3, seed=4)
    found = wb.scores_on(model, task, cache=False)
    grid = grids(app)["grid"]
    np.testing.assert_allclose(values(grid), found["previous_token"], atol=1e-5)
    low, high = found.interval("previous_token")
    assert f"[{low[1, 2]:.3g}, {high[1, 2]:.3g}]" in grid["texts"][2][1]
    assert "mean over 3 prompts of ioi" in grid["title"]
    assert grid["levels"] == [pytest.approx(found.uniform["previous_token"])]
    app.selectbox(key="score").set_value("direct_logit_attribution").run()
    grid = grids(app)["grid"]
    np.testing.assert_allclose(values(grid), found["direct_logit_attribution"], atol=1e-5)
    assert grid["low"] == -grid["high"] and "the answer’s logit" in grid["note"]
    again = opened(AppTest.from_string(SCRIPT, default_timeout=120), **app.query_params)
    assert grids(again)["grid"] == grid and len(queue.asked) == 1  # from the link alone


def test_the_data_of_the_grid_have_the_intervals_and_one_prompt_has_none() -> None:
    found = wb.scores_on(wb.load("tiny"), wb.task("ioi", n=3, seed=4), cache=False)
    score = head_task.score(found, "sink")
    assert (score.about["task"], score.about["n"], score.about["seed"]) == ("ioi", 3, 4) and "rough" in score.note
    np.testing.assert_array_equal(score.about["low"], found.interval("sink")[0].T)
    alone = head_task.score(wb.scores_on(wb.load("tiny"), wb.task("ioi", n=1), cache=False), "sink")
    assert "no interval" in alone.note and alone.texts is not None and "nan" not in "".join(alone.texts.ravel())


def test_one_of_the_prompts_is_looked_at(app: AppTest) -> None:
    opened(app, score="similarity", closely="2", **LINK)
    inputs = resolve_inputs(wb.task("ioi", n=3, seed=4), wb.load("tiny"))
    seen = wb.attention(wb.load("tiny"), inputs.texts[1][0], 1, 2)
    trace: Any = go.Figure(figures(app)["pattern"]).data[0]
    z = np.frombuffer(base64.b64decode(trace.z["bdata"]), trace.z["dtype"])
    np.testing.assert_allclose(z, seen.pattern.ravel(), atol=1e-5)
    assert [label.split(" ", 1)[1] for label in trace.x] == [visible(token) for token in seen.tokens]
    assert app.selectbox(key="closely").value == "2"
    app.number_input(key="n").set_value(1).run()  # there is no second one any more
    assert not app.exception and app.selectbox(key="closely").value == "1"


def test_the_side_bars_prompt_may_then_be_empty(app: AppTest) -> None:
    opened(app, prompt="", **LINK)
    assert not app.error and "grid" in grids(app)


def test_a_task_in_which_no_token_repeats_says_so() -> None:
    pairs = wb.pairs(clean=["Mary went to"], corrupt=["John went to"], answer=[" a"], wrong=[" b"])
    score = head_task.score(wb.scores_on(wb.load("tiny"), pairs, cache=False), "induction")
    assert np.isnan(score.values).all() and "occurs twice" in score.note
