"""The page Heads: scores with their chance levels, of the background and of sweeps, and two sides compared."""

from __future__ import annotations

import gc
import json
import logging
import re
import weakref
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
import torch
from streamlit.testing.v1 import AppTest
from transformers import GPT2Config, GPT2LMHeadModel

import workbench as wb
from app import Home, chosen, inputs, models
from app.heads import head_background, head_effect, head_view, pattern
from app.heads.head_background import LISTED
from app.heads.head_choice import LABELS
from app.heads.head_compare import next_tokens
from app.heads.head_score import ON_PROMPT, difference, on_prompt
from app.heads.look import Look
from app.work import background, sweeps
from app.work.jobs import Job
from app.work.swept import NEWEST
from workbench import attention_view
from workbench.errors import UsageError
from workbench.results import Sweep

tiny_checkpoint = partial(wb.load, "tiny")
REPEATING = "Mary and John and Mary and John and Mary"
OTHER = "When Mary and John went to the store, Mary gave a drink to"
SCRIPT = """
from app import chosen, models
from app.pages import heads
from app.plain import guarded
chosen.widgets(models.available())
with guarded():
    heads.page.render()
"""


class Queue:
    """In the place of the worker process: what was asked of it, and the state that it says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.now = Job(1, "", "running", 2, 6, "scores")

    def submit(self, key: str, job: dict[str, Any]) -> Job:
        if self.asked:  # begun again
            self.now = replace(self.now, state="running")
        self.asked.append((key, job))
        return self.now

    def with_key(self, key: str) -> Job | None:
        return self.now if any(key == known for known, _ in self.asked) else None

    def get(self, number: int) -> Job:
        return self.now

    def place(self, number: int) -> int:
        return 0

    def stop(self, number: int) -> None:
        self.now = replace(self.now, state="stopped")


@pytest.fixture(autouse=True)
def queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Queue]:
    found = Queue()
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WORKBENCH_CACHE", "on")
    monkeypatch.setattr(inputs, "folder", lambda: tmp_path / "explorer" / "inputs")
    monkeypatch.setattr(models, "available", lambda: ["tiny"])
    for module in (background, head_background, Home):
        monkeypatch.setattr(module, "jobs", lambda: found)
    yield found
    st.cache_resource.clear()


@pytest.fixture
def app() -> AppTest:
    return AppTest.from_string(SCRIPT, default_timeout=120)


def opened(app: AppTest, **query: str) -> AppTest:
    app.query_params.update(query)
    app.run()
    assert not app.exception, app.exception
    return app


def grids(app: AppTest) -> dict[str, dict[str, Any]]:
    """Key → what the grid draws."""
    return {str(element.key): json.loads(element.proto.json) for element in app.get("bidi_component")}


def figures(app: AppTest) -> dict[str, dict[str, Any]]:
    return {str(element.key): json.loads(element.proto.spec) for element in app.get("plotly_chart")}


def values(grid: dict[str, Any]) -> np.ndarray:
    """``[layer, head]``, NaN where there is none."""
    return np.array(grid["values"], dtype=float).T


def looked(text: str = chosen.FIRST) -> tuple[Any, Look]:
    model = wb.load("tiny")
    return model, Look(model, model.to_tokens(text)[0].tolist(), cache=False)


# --- chance levels --------------------------------------------------------------------------------------------------


def test_each_score_of_a_prompt_stands_beside_its_chance_level() -> None:
    _, look = looked(REPEATING)
    n = len(look)
    uniform = np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]
    wanted = {
        "previous_token": np.mean([uniform[q, q - 1] for q in range(1, n)]),
        "sink": uniform[:, 0].mean(),
        "entropy": np.mean([np.log(q + 1) for q in range(n)]),
    }
    for name, level in wanted.items():
        score = on_prompt(look, wb.Head(0, 0), name)
        assert score.levels == [pytest.approx(level)] and f"{level:.3g}" in score.note
    score = on_prompt(look, wb.Head(0, 0), "similarity")
    pairs = np.stack([look.similar(wb.Head(i, j)).ravel() for i, j in np.ndindex(score.values.shape)])
    median = np.nanmedian(np.abs(pairs))
    assert score.signed and score.levels == [pytest.approx(-median, abs=1e-6), pytest.approx(median, abs=1e-6)]


def test_a_prompt_without_repeats_says_why_heads_have_no_value() -> None:
    _, look = looked("Paul gave Anna")
    assert len(set(look.ids.tolist())) == len(look)
    score = on_prompt(look, wb.Head(0, 0), "induction")
    assert np.isnan(score.values).all() and "twice" in score.note


@torch.no_grad()
def test_attribution_stands_beside_that_of_heads_that_attend_uniformly() -> None:
    model, look = looked()
    uniform = np.zeros((model.n_layers, model.n_heads))
    direction, end = end_direction(model, look)
    v = wb.record(model, chosen.FIRST, ["v"], cache=False).clean["v"][0]
    for i, j in np.ndindex(*uniform.shape):
        mean = v[i, :, j // (model.n_heads // model.n_kv_heads)].mean(0)
        W_O = model.hf.model.layers[i].self_attn.o_proj.weight.unflatten(1, (model.n_heads, -1))[:, j]
        uniform[i, j] = float(W_O @ mean @ direction) / end
    score = on_prompt(look, wb.Head(0, 0), "direct_logit_attribution")
    assert score.levels[1] == pytest.approx(np.abs(uniform).mean(), rel=1e-3)
    first, second = look.next_tokens(2)
    assert repr(first.token) in score.note and repr(second.token) in score.note


def end_direction(model: Any, look: Look) -> tuple[torch.Tensor, float]:
    """From the final residual to the logit difference of the two likeliest tokens; and the norm's denominator there."""
    hf, last = model.hf, model.n_layers - 1
    best = hf(look.ids[None]).logits[0, -1].topk(2).indices
    raw = wb.record(model, chosen.FIRST, ["resid_post"], last, cache=False).clean["resid_post"][0][0, -1]
    weight = hf.lm_head.weight
    return (weight[best[0]] - weight[best[1]]) * hf.model.norm.weight, float(raw.square().mean().sqrt())


def test_every_score_of_a_prompt_is_drawn_and_nothing_is_asked_of_the_worker(app: AppTest, queue: Queue) -> None:
    for name in ON_PROMPT:
        grid = grids(opened(app, score=name, prompt=REPEATING))["grid"]
        assert grid["note"] and grid["units"] and "(1" not in grid["title"]
        app = AppTest.from_string(SCRIPT, default_timeout=120)
    assert queue.asked == []


# --- scores of the background ---------------------------------------------------------------------------------------


def test_a_score_of_weights_is_asked_of_the_worker_and_comes_when_it_is_done(app: AppTest, queue: Queue) -> None:
    opened(app, score="copy_score")
    assert queue.asked == [("scores tiny", {"kind": "scores", "model": "tiny"})]
    assert np.isnan(values(grids(app)["grid"])).all() and "background" in grids(app)["grid"]["note"]
    assert len(app.get("progress")) == 1 and "2 of 6" in str(app.get("progress")[0].proto.text)
    queue.now = replace(queue.now, state="done")
    app.run()
    assert not app.exception and not app.get("progress") and len(queue.asked) == 1
    grid = grids(app)["grid"]
    np.testing.assert_allclose(values(grid), copy_scores(), atol=1e-4)
    random = wb.scores(wb.load("tiny")).random["copy_score"]
    low, high = random.mean(), np.percentile(random, 95)
    assert grid["levels"] == [pytest.approx(low), pytest.approx(high)]
    assert f"random weights {low:.3g}" in grid["note"] and f"95th percentile {high:.3g}" in grid["note"]
    assert any("Copy score" in str(caption.value) for caption in app.caption)  # the summary has it, too


@torch.no_grad()
def copy_scores() -> np.ndarray:
    """From all eigenvalues of the vocabulary's whole OV matrix."""
    hf = wb.load("tiny").hf
    ends, found = hf.lm_head.weight * hf.model.norm.weight, []
    for layer in hf.model.layers:
        attention, n = layer.self_attn, hf.config.num_attention_heads
        gives = attention.o_proj.weight.unflatten(1, (n, -1))
        takes = attention.v_proj.weight.unflatten(0, (hf.config.num_key_value_heads, -1))
        takes = takes.repeat_interleave(n // len(takes), 0) * layer.input_layernorm.weight
        for j in range(n):
            whole = hf.model.embed_tokens.weight @ takes[j].T @ gives[:, j].T @ ends.T
            eigenvalues = np.linalg.eigvals(whole.double().numpy())
            found.append(eigenvalues.real.sum() / np.abs(eigenvalues).sum())
    return np.array(found).reshape(len(hf.model.layers), -1)


def test_every_score_of_the_background_has_a_chance_level_and_texts(queue: Queue) -> None:
    scores = wb.scores(wb.load("tiny"))
    known = head_background.Known(scores, {row["score"]: row for row in scores.chance().to_dict("records")})
    for listed, (name, label) in LISTED.items():
        score = head_background.score(known, listed)
        np.testing.assert_array_equal(score.values, scores[name])
        assert "random weights" in score.note and len(score.levels) >= 2 and LABELS[listed] == label
        assert score.texts is not None and score.texts.shape == score.values.shape
        assert ("95 % [" in score.texts[1, 0]) == (name in scores.samples)
    induction = head_background.score(known, "repeated_induction")
    low, high = scores.interval("induction")
    assert induction.texts is not None
    assert f"[{low[1, 2]:.3g}, {high[1, 2]:.3g}]" in induction.texts[1, 2]
    composition = head_background.score(known, "q_composition")
    row = scores.pairs["q_composition"][scores.heads.index("1.0")]
    assert composition.texts is not None
    assert composition.texts[1, 0].endswith(f"with {scores.heads[int(np.nanargmax(row))]}")


def test_without_the_cache_nothing_is_begun(app: AppTest, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", "off")
    opened(app, score="copy_score")
    assert "switch it on" in app.info[0].value and queue.asked == []


def test_a_job_that_failed_says_why_and_can_be_begun_again(app: AppTest, queue: Queue) -> None:
    queue.now = replace(queue.now, state="failed", why="no [room] left")
    opened(app, score="ov_norm")
    assert "room" in app.error[0].value
    app.button(key="compute-tiny").click().run()
    assert not app.exception and len(queue.asked) == 2 and app.get("progress")


def test_the_summary_asks_for_the_rest_of_the_weights_only_when_told(app: AppTest, queue: Queue) -> None:
    opened(app)
    assert queue.asked == []
    app.button(key="compute-tiny").click().run()
    assert len(queue.asked) == 1 and app.get("progress")
    queue.now = replace(queue.now, state="done")
    app.run()
    assert not app.exception and any("Copy score" in str(caption.value) for caption in app.caption)


# --- sweeps ---------------------------------------------------------------------------------------------------------


def swept(*axes: str, name: str = "tiny", positions: int = 3) -> Sweep:
    """Made-up effects: head 1.2 alone recovers everything, at position 1."""
    model, n = wb.load("tiny"), 12
    sizes = {"layer": model.n_layers, "head": model.n_heads, "position": positions}
    effects = np.zeros([sizes[axis] for axis in axes])
    effects[(1, 2, 1)[: len(axes)]] = 1.0
    draw = np.random.default_rng(0)
    gap = 3 + draw.normal(size=n) / 10
    shown = {"model": name, "task": "ioi", "n": n, "metric": "logit_difference", "direction": "denoise", "by": axes}
    cells = effects[..., None] * gap + draw.normal(size=(*effects.shape, n)) / 100
    return Sweep(cells - 1, np.full(n, -1.0), gap - 1, axes, info=shown)


def saved(sweep: Sweep, key: str = "a" * 64) -> str:
    path = sweeps.file(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep.save(path)
    return key


def test_without_a_sweep_the_page_says_where_to_run_one(app: AppTest) -> None:
    grid = grids(opened(app, score="patching_effect"))["grid"]
    assert "page Patching" in grid["note"] and np.isnan(values(grid)).all()


def test_the_newest_sweep_colours_the_heads(app: AppTest) -> None:
    sweep = swept("layer", "head")
    app.session_state[NEWEST] = {"tiny": saved(sweep)}
    grid = grids(opened(app, score="patching_effect"))["grid"]
    assert values(grid)[1, 2] == pytest.approx(1, abs=0.02) and grid["marked"] == [[1, 2]]
    assert grid["low"] == -grid["high"] and "0 = corrupt run" in grid["units"] and "n = 12" in grid["note"]
    said = grid["texts"][2][1]
    assert f"[{sweep.effect_low[1, 2]:.3g}, {sweep.effect_high[1, 2]:.3g}]" in said  # type: ignore[index]
    assert f"p = {sweep.p_value[1, 2]:.2g}" in said and sweep.p_value[1, 2] < 0.05
    again = grids(opened(AppTest.from_string(SCRIPT, default_timeout=120), **app.query_params))["grid"]
    assert again == grid  # from the link alone


def test_over_positions_the_largest_effect_is_shown(app: AppTest) -> None:
    app.session_state[NEWEST] = {"tiny": saved(swept("layer", "head", "position"))}
    grid = grids(opened(app, score="patching_effect"))["grid"]
    assert values(grid)[1, 2] == pytest.approx(1, abs=0.02)
    assert grid["texts"][2][1].endswith("at 1") and "largest over positions" in grid["note"]


@pytest.mark.parametrize(
    ("sweep", "said"),
    [(swept("layer", "position"), "by head"), (swept("layer", "head", name="gpt2"), "another model")],
)
def test_a_sweep_that_has_no_heads_of_this_model_is_said_in_a_line(app: AppTest, sweep: Sweep, said: str) -> None:
    app.session_state[NEWEST] = {"tiny": saved(sweep)}
    opened(app, score="patching_effect")
    assert said in app.error[0].value and any("Head 0" in str(heading.value) for heading in app.subheader)


def test_a_sweep_of_some_layers_leaves_the_others_blank() -> None:
    whole = swept("layer", "head")
    part = Sweep(whole.values[1:], whole.base, whole.source, whole.axes, {"layer": ("1",)}, whole.info)
    score = head_effect.score(wb.load("tiny"), saved(part))
    assert np.isnan(score.values[0]).all() and score.values[1, 2] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("key", ["../../etc/passwd", "b" * 64, "A" * 64])
def test_a_link_cannot_name_another_file_as_a_sweep(app: AppTest, key: str) -> None:
    grid = grids(opened(app, score="patching_effect", **{head_effect.LINK + "tiny": key}))["grid"]
    assert "page Patching" in grid["note"]


# --- compared -------------------------------------------------------------------------------------------------------


def test_two_prompts_side_by_side(app: AppTest) -> None:
    opened(app, compare="yes", prompt2=OTHER, head="1.2", score="sink")
    drawn, charts = grids(app), figures(app)
    (model, one), (_, other) = looked(), looked(OTHER)
    np.testing.assert_allclose(values(drawn["grid"]), one.scores["sink"], atol=1e-5)
    np.testing.assert_allclose(values(drawn["grid-second"]), other.scores["sink"], atol=1e-5)
    np.testing.assert_allclose(values(drawn["grid-difference"]), one.scores["sink"] - other.scores["sink"], atol=1e-5)
    assert drawn["grid"]["high"] == drawn["grid-second"]["high"] and drawn["grid-difference"]["low"] < 0
    assert {"pattern-first", "pattern-second", "pattern-difference"} <= set(charts)
    table = app.dataframe[0].value
    assert set(table.columns) == {"token", "first", "second", "difference"}
    np.testing.assert_allclose(table["difference"], table["first"] - table["second"])
    with torch.no_grad():
        chances = [model.hf(look.ids[None]).logits[0, -1].softmax(-1) for look in (one, other)]
    distance = float((chances[0] - chances[1]).abs().sum() / 2)
    assert any(f"{distance:.3f}" in str(caption.value) for caption in app.caption)
    assert np.max(table["first"]) == pytest.approx(float(chances[0].max()), abs=1e-5)


def test_prompts_of_other_lengths_have_no_difference_of_patterns(app: AppTest) -> None:
    opened(app, compare="yes", prompt2="Paul and Anna")
    assert "pattern-difference" not in figures(app) and "grid-difference" in grids(app)
    assert any("14 and" in info.value or "tokens" in info.value for info in app.info)


def test_two_heads_side_by_side(app: AppTest) -> None:
    opened(app, compare="yes", differs="head", head="1.2", head2="0.3", score="sink")
    drawn = grids(app)
    assert drawn["grid"]["selected"] == [1, 2] and drawn["grid-second"]["selected"] == [0, 3]
    assert drawn["grid"]["marked"] == [[0, 3]] and "grid-difference" not in drawn
    _, look = looked()
    wanted = look.pattern(wb.Head(1, 2)) - look.pattern(wb.Head(0, 3))
    assert largest(figures(app)["pattern-difference"]) == pytest.approx(np.abs(wanted).max(), abs=1e-4)
    app.selectbox(key="score").set_value("similarity").run()
    difference_ = values(grids(app)["grid-difference"])
    same = look.similar(wb.Head(1, 2)) - look.similar(wb.Head(0, 3))
    np.testing.assert_allclose(difference_, same, atol=1e-5)


def largest(figure: dict[str, Any]) -> float:
    return float(figure["data"][0]["zmax"])


def test_a_second_head_is_at_first_the_most_alike(app: AppTest) -> None:
    opened(app, compare="yes", differs="head", head="1.2")
    similar = looked()[1].similar(wb.Head(1, 2))
    layer, index = np.unravel_index(np.nanargmax(similar), similar.shape)
    assert app.query_params["head2"] == f"{layer}.{index}"


def test_two_models_side_by_side(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = {"tiny": wb.load("tiny"), "other": wb.load("tiny")}
    with torch.no_grad():
        loaded["other"].hf.model.layers[1].self_attn.q_proj.weight.mul_(3)
    monkeypatch.setattr(models, "available", lambda: list(loaded))
    monkeypatch.setattr(models, "load", loaded.__getitem__)
    opened(app, compare="yes", differs="model", score="sink", head="1.2")
    drawn = grids(app)
    assert app.selectbox(key="model2").value == "other" and drawn["grid-second"]["title"].startswith("other")
    difference_ = values(drawn["grid-difference"])
    np.testing.assert_allclose(difference_[0], 0, atol=1e-6)
    assert np.abs(difference_[1]).max() > 1e-3
    assert "pattern-difference" in figures(app)


def test_models_of_other_shapes_have_no_difference(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    small = wb.load("tiny")
    config = GPT2Config(vocab_size=small.cfg.d_vocab, n_embd=48, n_layer=3, n_head=6, n_positions=64)
    other = wb.HookedLM(GPT2LMHeadModel(config).eval(), small.tokenizer)
    loaded = {"tiny": small, "other": other}
    monkeypatch.setattr(models, "available", lambda: list(loaded))
    monkeypatch.setattr(models, "load", loaded.__getitem__)
    opened(app, compare="yes", differs="model", head="1.3")
    assert "grid-difference" not in grids(app)
    assert any(f"{other.n_layers} × {other.n_heads} heads in other" in info.value for info in app.info)


def test_without_a_second_model_the_page_says_so(app: AppTest) -> None:
    opened(app, compare="yes", differs="model")
    assert "no second model" in app.error[0].value


@pytest.mark.parametrize(
    ("query", "said"),
    [({"differs": "head", "head2": "nonsense"}, "not a head"), ({"prompt2-input": "0" * 64}, "not on this machine")],
)
def test_a_link_to_no_second_side_is_one_line(app: AppTest, query: dict[str, str], said: str) -> None:
    opened(app, compare="yes", **query)
    assert said in str([*app.error, *app.warning][0].value)


def test_a_second_prompt_is_a_text_and_a_long_one_is_in_the_link_by_its_hash(app: AppTest) -> None:
    opened(app, compare="yes")
    text = "<b>Mary</b> and John " * 110
    app.text_area(key="prompt2").set_value(text).run()
    assert not app.exception
    name = app.query_params["prompt2-input"]
    assert "prompt2" not in app.query_params and inputs.kept(name).decode() == text
    assert "at most" in app.error[0].value  # it has too many tokens for this model
    app.text_area(key="prompt2").set_value("<b>Mary</b> and John").run()
    assert not app.error and len(app.get("html")) == 2
    assert all("<b>" not in html.proto.body for html in app.get("html"))
    app.text_area(key="prompt2").set_value("").run()
    assert "second prompt is empty" in app.error[0].value.lower()
    app.text_area(key="prompt2").set_value(OTHER).run()
    assert not app.error and app.query_params["prompt2"] == OTHER
    app.toggle(key="compare").set_value(False).run()
    assert not {"prompt2", "prompt2-input", "differs"} & set(app.query_params)
    app.toggle(key="compare").set_value(True).run()
    assert app.text_area(key="prompt2").value == OTHER


def test_a_difference_is_first_less_second() -> None:
    (_, one), (_, other) = looked(), looked(OTHER)
    head = wb.Head(1, 1)
    found = difference(on_prompt(one, head, "entropy"), on_prompt(other, head, "entropy"))
    np.testing.assert_array_equal(found.values, one.scores["entropy"] - other.scores["entropy"])
    assert found.signed and f"{np.median(np.abs(found.values)):.3g}" in found.note


def test_next_tokens_of_two_models_are_compared_as_text() -> None:
    (_, one), (_, other) = looked(), looked()
    table = next_tokens(one, other)
    assert len(table) == 8 and np.allclose(table["first"], table["second"]) and np.allclose(table["difference"], 0)


def test_a_text_of_too_many_tokens_is_refused() -> None:
    with pytest.raises(UsageError, match="at most"):
        chosen.ids(wb.load("tiny"), "Mary and John " * 2_000)


# --- one head -------------------------------------------------------------------------------------------------------


def test_the_position_returns_to_the_last_one_with_another_prompt(app: AppTest) -> None:
    opened(app, dest="3")
    assert app.slider(key="dest").value == 3
    app.text_input(key=chosen.HEAD).set_value("1.1").run()
    assert app.slider(key="dest").value == 3
    app.text_area(key=chosen.PROMPT).set_value(OTHER).run()
    assert not app.exception and app.slider(key="dest").value == len(looked(OTHER)[1]) - 1


def test_a_long_prompt_is_pooled_and_any_block_of_it_is_shown(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (attention_view, pattern):
        monkeypatch.setattr(module, "FULL", 20)
    monkeypatch.setattr(pattern, "BLOCK", 10)
    monkeypatch.setattr(head_view, "LONG", 20)
    text = "Mary and John " * 15
    _, look = looked(text)
    row = look.pattern(wb.Head(0, 0))
    opened(app, prompt=text, head="0.0")
    figure = figures(app)["pattern"]
    assert "largest of" in figure["layout"]["title"]["subtitle"]["text"] and len(figure["data"][0]["x"]) <= 20
    app.selectbox(key="block").set_value("20 to 29").run()
    assert figures(app)["pattern"]["data"][0]["x"][0].startswith("20 ")
    app.selectbox(key="among").set_value("0 to 9").run()
    assert not app.exception
    figure = figures(app)["pattern"]
    assert figure["data"][0]["y"][0].startswith("20 ") and figure["data"][0]["x"][0].startswith("0 ")
    assert largest(figure) == pytest.approx(row[20:30, :10].max(), abs=1e-5)
    most = next(str(caption.value) for caption in app.caption if str(caption.value).startswith("Most"))
    assert f" {row[-1].argmax()} " in most and f"{row[-1].max():.2f}".replace(".", "\\.") in most


def test_a_model_that_is_let_go_takes_its_looks_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "available", lambda: ["one", "two", "three"])
    monkeypatch.setattr(wb, "load", lambda name: tiny_checkpoint())
    assert models.MODELS == 2
    gone = weakref.ref(models.load("one"))
    models.look("one", [5, 6, 7])
    models.load("two")
    gc.collect()
    assert gone() is not None
    models.load("three")
    gc.collect()
    assert gone() is None


def test_the_page_says_how_long_it_took(app: AppTest, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "workbench.explorer")
    AppTest.from_string("from app.Home import main; main()", default_timeout=120).run()
    said = re.search(r"Heads drawn in (\d+\.\d) ms", caplog.text)
    assert said is not None and 0 < float(said[1]) < 120_000
