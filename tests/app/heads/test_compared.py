"""Two prompts, heads or models side by side."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest
from transformers import GPT2Config, GPT2LMHeadModel

import workbench as wb
from app import models, upload_store
from app.heads.comparison import next_tokens
from app.heads.score import difference, prompt_score
from tests.app.heads.rendered import OTHER, grids, opened, patterns, record_of, text, values
from tests.app.heads.tables import ROUNDED, small_tables


def test_two_prompts_side_by_side(app: AppTest) -> None:
    opened(app, compare="yes", prompt2=OTHER, head="1.2", score="sink")
    grids_, charts = grids(app), patterns(app)
    (model, one), (_, other) = record_of(), record_of(OTHER)
    np.testing.assert_allclose(values(grids_["grid"]), one.scores["sink"], atol=1e-5)
    np.testing.assert_allclose(values(grids_["grid-second"]), other.scores["sink"], atol=1e-5)
    np.testing.assert_allclose(values(grids_["grid-difference"]), one.scores["sink"] - other.scores["sink"], atol=1e-5)
    assert grids_["grid"]["high"] == grids_["grid-second"]["high"] and grids_["grid-difference"]["low"] < 0
    assert {"pattern-first", "pattern-second", "pattern-difference"} <= set(charts)
    table = small_tables(app)[0]
    assert set(table.columns) == {"token", "first", "second", "difference"}
    np.testing.assert_allclose(table["difference"], table["first"] - table["second"], atol=3 * ROUNDED)
    with torch.no_grad():
        probabilities = [model.hf(record.ids[None]).logits[0, -1].softmax(-1) for record in (one, other)]
    distance = float((probabilities[0] - probabilities[1]).abs().sum() / 2)
    assert any(f"{distance:.3f}" in str(caption.value) for caption in app.caption)
    assert np.max(table["first"]) == pytest.approx(float(probabilities[0].max()), abs=ROUNDED)


def test_prompts_of_other_lengths_have_no_difference_of_patterns(app: AppTest) -> None:
    opened(app, compare="yes", prompt2="Paul and Anna")
    assert "pattern-difference" not in patterns(app) and "grid-difference" in grids(app)
    assert [text(app, f"text-{side}")["asks"] for side in ("first", "second")] == [False, False]
    app.selectbox(key="score").set_value("pair").run()
    assert not app.exception and "different numbers of tokens" in grids(app)["grid"]["note"]
    assert any("18 and" in info.value or "tokens" in info.value for info in app.info)


def test_two_heads_side_by_side(app: AppTest) -> None:
    opened(app, compare="yes", differs="head", head="1.2", head2="0.3", score="sink")
    grids_ = grids(app)
    assert grids_["grid"]["selected"] == [1, 2] and grids_["grid-second"]["selected"] == [0, 3]
    assert grids_["grid"]["marked"] == [[0, 3]] and "grid-difference" not in grids_
    _, record = record_of()
    expected = record.pattern(wb.Head(1, 2)) - record.pattern(wb.Head(0, 3))
    canvas = patterns(app)["pattern-difference"]
    np.testing.assert_allclose(canvas["values"], expected, atol=1e-5)
    assert canvas["scale"]["limit"] == pytest.approx(np.abs(expected).max(), abs=1e-4)
    # Both texts are asked about the same position, each in its own head.
    for key, head in (("first", wb.Head(1, 2)), ("second", wb.Head(0, 3))):
        np.testing.assert_allclose(text(app, f"text-{key}")["weights"], record.pattern(head)[-1], atol=1e-5)
    app.selectbox(key="score").set_value("similarity").run()
    difference_ = values(grids(app)["grid-difference"])
    same = record.similarity(wb.Head(1, 2)) - record.similarity(wb.Head(0, 3))
    np.testing.assert_allclose(difference_, same, atol=1e-5)


def test_the_default_second_head_is_the_most_similar(app: AppTest) -> None:
    opened(app, compare="yes", differs="head", head="1.2")
    cosines = record_of()[1].similarity(wb.Head(1, 2))
    layer, index = np.unravel_index(np.nanargmax(cosines), cosines.shape)
    assert app.query_params["head2"] == f"{layer}.{index}"


def test_two_models_side_by_side(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = {"tiny": wb.load("tiny"), "other": wb.load("tiny")}
    with torch.no_grad():
        loaded["other"].hf.model.layers[1].self_attn.q_proj.weight.mul_(3)
    monkeypatch.setattr(models, "available", lambda: list(loaded))
    monkeypatch.setattr(models, "load", loaded.__getitem__)
    opened(app, compare="yes", differs="model", score="sink", head="1.2")
    grids_ = grids(app)
    assert app.selectbox(key="model2").value == "other" and grids_["grid-second"]["title"].startswith("other")
    difference_ = values(grids_["grid-difference"])
    np.testing.assert_allclose(difference_[0], 0, atol=1e-6)
    assert np.abs(difference_[1]).max() > 1e-3
    assert "pattern-difference" in patterns(app)


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
    ("query", "message"),
    [
        ({"differs": "head", "head2": "nonsense"}, "expected a head"),
        ({"prompt2-input": "0" * 64}, "not on this machine"),
    ],
)
def test_an_invalid_second_side_in_the_url_is_one_line(app: AppTest, query: dict[str, str], message: str) -> None:
    opened(app, compare="yes", **query)
    assert message in str([*app.error, *app.warning][0].value)


def test_a_second_prompt_is_a_text_and_a_long_one_is_in_the_url_by_its_hash(app: AppTest) -> None:
    opened(app, compare="yes")
    long = "<b>Mary</b> and John " * 110
    app.text_area(key="prompt2").set_value(long).run()
    assert not app.exception
    name = app.query_params["prompt2-input"]
    assert "prompt2" not in app.query_params and upload_store.load(name).decode() == long
    assert "the limit is" in app.error[0].value  # it has too many tokens for this model
    app.text_area(key="prompt2").set_value("<b>Mary</b> and John").run()
    tokenizer, written = wb.load("tiny").tokenizer, "".join(piece[0] for piece in text(app, "text-second")["pieces"])
    assert not app.error and written == tokenizer.decode(tokenizer("<b>Mary</b> and John").input_ids)
    assert all("<b>" not in html.proto.body for html in app.get("html"))
    app.text_area(key="prompt2").set_value("").run()
    assert "second prompt: it is empty" in app.error[0].value.replace("\\", "").lower()
    app.text_area(key="prompt2").set_value(OTHER).run()
    assert not app.error and app.query_params["prompt2"] == OTHER
    app.toggle(key="compare").set_value(False).run()
    assert not {"prompt2", "prompt2-input", "differs"} & set(app.query_params)
    app.toggle(key="compare").set_value(True).run()
    assert app.text_area(key="prompt2").value == OTHER


def test_a_difference_is_the_first_minus_the_second() -> None:
    (_, one), (_, other) = record_of(), record_of(OTHER)
    head = wb.Head(1, 1)
    score = difference(prompt_score(one, head, "entropy"), prompt_score(other, head, "entropy"))
    np.testing.assert_array_equal(score.values, one.scores["entropy"] - other.scores["entropy"])
    assert score.signed and f"{np.median(np.abs(score.values)):.3g}" in score.note


def test_next_tokens_of_two_models_are_compared_as_text() -> None:
    (_, one), (_, other) = record_of(), record_of()
    table = next_tokens(one, other)
    assert len(table) == 8 and np.allclose(table["first"], table["second"]) and np.allclose(table["difference"], 0)
