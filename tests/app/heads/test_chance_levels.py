"""Scores of a prompt, each with its chance level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import sidebar
from app.heads import score_grid
from app.heads.prompt_record import PromptRecord
from app.heads.score import COUNTED, PROMPT_SCORES, prompt_score
from tests.app.heads.rendered import REPEATING, SCRIPT, TIMEOUT, Queue, grids, opened, record_of


def test_each_score_of_a_prompt_is_shown_with_its_chance_level() -> None:
    _, record = record_of(REPEATING)
    n = len(record)
    uniform = np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]
    expected = {
        "previous_token": np.mean([uniform[q, q - 1] for q in range(1, n)]),
        "sink": uniform[:, 0].mean(),
        "entropy": np.mean([np.log(q + 1) for q in range(n)]),
    }
    for name, level in expected.items():
        score = prompt_score(record, wb.Head(0, 0), name)
        assert score.levels == [pytest.approx(level)] and f"{level:.3g}" in score.note
    score = prompt_score(record, wb.Head(0, 0), "similarity")
    pairs = np.stack([record.similarity(wb.Head(i, j)).ravel() for i, j in np.ndindex(score.values.shape)])
    median = np.nanmedian(np.abs(pairs))
    assert score.signed and score.levels == [pytest.approx(-median, abs=1e-6), pytest.approx(median, abs=1e-6)]


def test_a_score_says_over_how_many_positions_it_is_taken() -> None:
    _, record = record_of()
    assert len(record) == 18 and len(set(record.ids.tolist())) == 14  # four tokens occur twice
    for name, count in (("induction", 4), ("duplicate_token", 4), ("previous_token", 17), ("sink", 18)):
        score = prompt_score(record, wb.Head(0, 0), name)
        assert f"Mean over {count} positions" in score.note and score.positions == score.data()["positions"] == count
        assert COUNTED.get(name, ".") in score.note and COUNTED.get(name, "") in score_grid.HELP
        assert score.signed == ("other later positions" in score.note) == (count == 4)
    assert "over 18 positions" in prompt_score(record, wb.Head(0, 0), "similarity").note
    assert "at the last position" in prompt_score(record, wb.Head(0, 0), "direct_logit_attribution").note


def test_the_positions_that_count_are_those_that_are_named() -> None:
    """`a b b a c b`: the position 2 repeats its neighbour alone, which induction does not count."""
    model = wb.load("tiny")
    a, b, c = model.to_tokens("Mary and John")[0].tolist()[:3]
    record = PromptRecord(model, [a, b, b, a, c, b], cache=False)
    ids, counts = record.ids.tolist(), record.positions
    assert counts["previous_token"] == len(ids) - 1 and counts["duplicate_token"] == 3
    assert counts["induction"] == sum(ids[q] in ids[: max(0, q - 1)] for q in range(len(ids))) == 2


def test_a_prompt_without_repeats_says_why_heads_have_no_value() -> None:
    _, record = record_of("Paul gave Anna")
    assert len(set(record.ids.tolist())) == len(record)
    score = prompt_score(record, wb.Head(0, 0), "induction")
    assert np.isnan(score.values).all() and "twice" in score.note


@torch.no_grad()
def test_attribution_is_shown_with_that_of_heads_that_attend_uniformly() -> None:
    model, record = record_of()
    uniform = np.zeros((model.n_layers, model.n_heads))
    direction, end = end_direction(model, record)
    v = wb.record(model, sidebar.DEFAULT_PROMPT, ["v"], cache=False).clean["v"][0]
    for i, j in np.ndindex(*uniform.shape):
        mean = v[i, :, j // (model.n_heads // model.n_kv_heads)].mean(0)
        W_O = model.hf.model.layers[i].self_attn.o_proj.weight.unflatten(1, (model.n_heads, -1))[:, j]
        uniform[i, j] = float(W_O @ mean @ direction) / end
    score = prompt_score(record, wb.Head(0, 0), "direct_logit_attribution")
    assert score.levels[1] == pytest.approx(np.abs(uniform).mean(), rel=1e-3)
    np.testing.assert_allclose(np.asarray(score.chance), uniform, atol=1e-4)
    first, second = record.next_tokens(2)
    assert repr(first.token) in score.note and repr(second.token) in score.note


def end_direction(model: Any, record: PromptRecord) -> tuple[torch.Tensor, float]:
    """From the final residual to the logit difference of the two likeliest tokens; and the norm's denominator there."""
    hf, last = model.hf, model.n_layers - 1
    best = hf(record.ids[None]).logits[0, -1].topk(2).indices
    raw = wb.record(model, sidebar.DEFAULT_PROMPT, ["resid_post"], last, cache=False).clean["resid_post"][0][0, -1]
    weight = hf.lm_head.weight
    return (weight[best[0]] - weight[best[1]]) * hf.model.norm.weight, float(raw.square().mean().sqrt())


def test_every_score_of_a_prompt_is_shown_and_nothing_is_requested_from_the_worker(app: AppTest, queue: Queue) -> None:
    for name in PROMPT_SCORES:
        grid = grids(opened(app, score=name, prompt=REPEATING))["grid"]
        assert grid["note"] and grid["units"] and "(1" not in grid["title"]
        app = AppTest.from_string(SCRIPT, default_timeout=TIMEOUT)
    assert queue.requests == []
