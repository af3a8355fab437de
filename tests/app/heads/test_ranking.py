"""Heads ranked by the grid's score; and what the page says of heads without a value."""

from __future__ import annotations

import io
from html import unescape
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from streamlit.testing.v1 import AppTest
from transformers import GPT2Config, GPT2LMHeadModel

import workbench as wb
from app import models, sidebar
from app.heads import model_scores
from app.heads.asking import Asking
from app.heads.comparison import next_tokens
from app.heads.detail import similar_heads_table
from app.heads.parts import ranking
from app.heads.parts.ranking import table_texts
from app.heads.score import Score, difference, prompt_score, without_value
from app.heads.selection import Selection
from app.heads.view import View
from tests.app.heads.rendered import SCRIPT, TIMEOUT, grids, opened, record_of, values
from tests.app.heads.tables import small_tables


def rows_of(app: AppTest) -> list[list[str]]:
    return grids(app)["ranking"]["rows"]


def as_number(text: str) -> float:
    """A number of the page, which has the minus sign of print."""
    assert "-" not in text.replace("e-", "e")
    return float(text.replace("\N{MINUS SIGN}", "-"))


def captions(app: AppTest) -> str:
    return " | ".join(str(caption.value).replace("\\", "") for caption in app.caption)


def below_tables(app: AppTest) -> str:
    """The lines below small tables."""
    return unescape(" ".join(element.value for element in app.html))


def test_the_table_has_the_grids_numbers_in_order(app: AppTest) -> None:
    opened(app, score="induction", head="1.2")
    frame = wb.scores_on(wb.load("tiny"), sidebar.DEFAULT_PROMPT, cache=False).ranking("induction")
    expected = {name: frame[name].tolist() for name in frame}
    data = grids(app)["ranking"]
    assert [name for name, _ in data["headings"]] == ["rank", "head", "value", "chance"]
    assert [row[1] for row in data["rows"]] == expected["head"] and data["selected"] == "1.2"
    np.testing.assert_allclose([as_number(row[2]) for row in data["rows"]], expected["value"], rtol=6e-3, atol=1e-6)
    assert {as_number(row[3]) for row in data["rows"]} == {float(f"{expected['chance'][0]:.3g}")}
    grid = values(grids(app)["grid"])
    assert f"{grid.max():.3g}" == data["rows"][0][2] and expected["positions"][0] == 4
    assert f"Head 1.2 is number {expected['head'].index('1.2') + 1} of 16." in captions(app)
    app.selectbox(key="score").set_value("direct_logit_attribution").run()
    sizes = [abs(as_number(row[2])) for row in rows_of(app)]
    assert sizes == sorted(sizes, reverse=True) and min(as_number(row[2]) for row in rows_of(app)) < 0


def test_the_filter_takes_heads_and_layers_and_is_in_the_url(app: AppTest) -> None:
    opened(app, score="sink", ranked="1")
    assert len(rows_of(app)) == 8 and all(row[1].startswith("1.") for row in rows_of(app))
    app.text_input(key="ranked").set_value("L0H3, 1.2").run()
    assert {row[1] for row in rows_of(app)} == {"0.3", "1.2"} and app.query_params["ranked"] == "L0H3, 1.2"
    again = opened(AppTest.from_string(SCRIPT, default_timeout=TIMEOUT), **app.query_params)
    assert rows_of(again) == rows_of(app)
    app.text_input(key="ranked").set_value("2").run()
    (error,) = app.error
    assert "its layers are 0 to 1" in str(error.value) and "ranking" not in grids(app) and "grid" in grids(app)


def test_the_download_is_the_whole_ranking_and_names_what_it_is_of() -> None:
    model, record = record_of()
    head = wb.Head(1, 2)
    selection = Selection("first", "tiny", model, record, head)
    view = View(selection, "induction", prompt_score(record, head, "induction"), Asking(0))
    frame = pd.read_csv(io.BytesIO(ranking.csv(view)))
    expected = view.score.ranking()
    heads = [wb.Head.parse(name) for name in expected["head"]]
    assert [wb.Head.parse(name) for name in frame["head"]] == heads and len(frame) == 16
    assert frame[["layer", "head_index"]].values.tolist() == [[head.layer, head.index] for head in heads]
    np.testing.assert_allclose(frame["value"], expected["value"], rtol=1e-6)
    assert set(frame["positions"]) == {4} and set(frame["chance_level"]) == {"uniform attention"}
    assert set(frame["model"]) == {"tiny"} and set(frame["prompt"]) == {sidebar.DEFAULT_PROMPT}
    score = Score(view.score.values, "Sink", "attention", "", metadata={"task": "ioi", "n": 3})
    of_task = pd.read_csv(io.BytesIO(ranking.csv(View(selection, "sink", score, Asking(0)))))
    assert set(of_task["task"]) == {"ioi"} and "prompt" not in of_task


def test_intervals_stand_in_the_table() -> None:
    scores = wb.scores(wb.load("tiny"), wb.task("ioi", n=4), cache=False)
    of_model = model_scores.ModelScores(scores, {row["score"]: row for row in scores.chance().to_dict("records")})
    for listed, (name, _) in model_scores.LISTED.items():
        score = model_scores.score(of_model, listed)
        pd.testing.assert_frame_equal(score.ranking(), scores.ranking(name))
        columns, rows = table_texts(score)
        assert ("95 % interval" in columns) == (name in scores.samples) and len(rows[0]) == len(columns)
        counted = {"direct_logit_attribution": "the last position of each of 4 prompts"}.get(name, "")
        counted = counted or (f"{scores.positions[name]:,} positions" if name in scores.positions else "no positions")
        assert counted in score.note and score.positions == scores.positions.get(name)
    columns, rows = table_texts(model_scores.score(of_model, "task_attribution"))
    low, high = scores.interval("direct_logit_attribution")
    first = wb.Head.parse(rows[0][1])
    assert rows[0][3] == f"{low[first.layer, first.index]:.3g} to {high[first.layer, first.index]:.3g}"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"score": "previous_token", "prompt": "Mary"}, "one position has only itself"),
        ({"score": "similarity", "prompt": "Mary"}, "one position has only itself"),
        ({"score": "induction", "prompt": "Paul gave Anna"}, "no token occurs twice"),
        ({"score": "sink", "operators": "all=mlp"}, "no matrix"),
        ({"score": "similarity", "operators": "1=lightning", "head": "1.2"}, "no shares of attention"),
    ],
)
def test_a_score_that_no_head_has_says_why(app: AppTest, query: dict[str, str], reason: str) -> None:
    opened(app, **query)
    grid = grids(app)["grid"]
    assert reason in grid["note"] and grid["note"].startswith("No value:") and "Chance level" not in grid["note"]
    assert np.isnan(values(grid)).all() and "ranking" not in grids(app) and not app.error
    assert grid["note"].count(":") <= 4 and "nan" not in grid["note"]


def test_heads_without_a_value_are_counted_below_the_table(app: AppTest) -> None:
    opened(app, score="sink", operators="1=lightning", head="0.2")
    assert len(rows_of(app)) == 8 and "No value for layer 1: lightning" in captions(app)


def test_heads_that_are_like_none_say_so_instead_of_a_list(app: AppTest) -> None:
    opened(app, operators="1=lightning", head="1.2")
    assert "None: lightning: the rows of its matrix are no shares of attention." in below_tables(app)
    assert not any("cosine" in table.columns for table in small_tables(app))
    uniform = opened(AppTest.from_string(SCRIPT, default_timeout=TIMEOUT), operators="0=uniform", head="0.2")
    assert "None: the pattern is that of uniform attention" in below_tables(uniform)
    again = AppTest.from_string(SCRIPT, default_timeout=TIMEOUT)
    opened(again, operators="1=lightning", head="1.2", compare="yes", differs="head")
    assert again.query_params["head2"] == "1.3" and "No head’s pattern is compared with that of 1.2" in captions(again)
    nowhere = np.full((2, 2), np.nan)
    assert similar_heads_table(nowhere).empty
    nowhere[1, 0] = 0.5
    assert similar_heads_table(nowhere).to_dict("records") == [{"head": "1.0", "cosine": 0.5}]


@pytest.mark.parametrize("same", [True, False])
def test_none_is_explained_where_a_none_stands(app: AppTest, monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    small = wb.load("tiny")
    other: Any = wb.load("tiny")
    if not same:
        config = GPT2Config(vocab_size=small.cfg.d_vocab, n_embd=48, n_layer=2, n_head=8, n_positions=64)
        torch.manual_seed(0)
        other = wb.HookedLM(GPT2LMHeadModel(config).eval(), Renamed(small.tokenizer))
    loaded = {"tiny": small, "other": other}
    monkeypatch.setattr(models, "available", lambda: list(loaded))
    monkeypatch.setattr(models, "load", loaded.__getitem__)
    opened(app, compare="yes", differs="model", head="1.2")
    (table,) = [table for table in small_tables(app) if "second" in table.columns]
    assert ("–: the model’s vocabulary" in captions(app)) == bool(table.isna().to_numpy().any()) == (not same)


class Renamed:
    """A tokenizer that reads no text as one token."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.tokenizer(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def encode(self, text: str, **_: Any) -> list[int]:
        return [5, 6]


def test_differences_rank_by_size_and_say_whose_value_is_missing() -> None:
    (_, one), (_, other) = record_of(), record_of("Paul gave Anna")
    head = wb.Head(1, 1)
    score = difference(prompt_score(one, head, "sink"), prompt_score(other, head, "sink"))
    sizes = score.ranking()["value"].abs().tolist()
    assert sizes == sorted(sizes, reverse=True) and "Over 18 and 3 positions." in score.note
    missing = difference(prompt_score(one, head, "induction"), prompt_score(other, head, "induction"))
    assert missing.note == "No value: second: no token occurs twice." and missing.ranking().empty
    assert without_value(missing) == ["No value for all heads: second: no token occurs twice."]


def test_next_tokens_of_one_vocabulary_have_no_none() -> None:
    (_, one), (_, other) = record_of(), record_of()
    assert not next_tokens(one, other).isna().to_numpy().any()


def test_a_chance_level_below_zero_is_explained_where_it_is_shown(app: AppTest) -> None:
    opened(app, score="induction")
    level = wb.scores_on(wb.load("tiny"), sidebar.DEFAULT_PROMPT, cache=False).uniform["induction"]
    assert level < 0 and {row[3] for row in rows_of(app)} == {f"{level:.3g}".replace("-", "−")}
    assert "below 0: earlier positions attend to fewer keys" in grids(app)["grid"]["note"]
    assert "below 0: earlier positions attend to fewer keys" in ranking.HELP
    app.selectbox(key="score").set_value("sink").run()
    assert "below 0" not in grids(app)["grid"]["note"]
