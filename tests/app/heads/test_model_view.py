"""The patterns of all heads on the page: those of `workbench.model_view`, sent once and ordered as asked."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import sidebar
from app.components.model_view import DIGEST
from app.heads import detail, model_view
from app.heads.record_scores import ATTRIBUTION
from app.heads.score import Score
from tests.app.heads.rendered import REPEATING, opened, record_of
from workbench.plotting.colour_scale import ROOT

KEY = "model-view"
OPEN = {model_view.PARAM: "yes"}
BY_SCORE = {**OPEN, "patterns-order": model_view.SCORE}


def components(app: AppTest) -> dict[str, Any]:
    return {str(element.key): element.proto for element in app.get("bidi_component")}


def component_data(app: AppTest) -> dict[str, Any]:
    """What the component is given besides the maps."""
    return json.loads(components(app)[KEY].json)


def sent(app: AppTest) -> bytes:
    return components(app)[f"{KEY}-patterns"].bytes


def names(app: AppTest) -> list[str]:
    return [f"{layer}.{index}" for _, layer, index in component_data(app)["heads"]]


def test_nothing_is_computed_before_the_patterns_are_asked_for(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wb, "model_view", None)
    opened(app, head="1.3")
    assert not app.error and KEY not in components(app)


def test_every_head_has_its_own_pattern_in_the_bytes(app: AppTest) -> None:
    opened(app, head="1.3", **OPEN)
    assert not app.error
    view = wb.model_view(wb.load("tiny"), sidebar.DEFAULT_PROMPT, cache=False)
    data, payload = component_data(app), sent(app)
    side = data["side"]
    levels = np.frombuffer(payload[DIGEST:], np.uint8).reshape(-1, side, side)
    np.testing.assert_allclose((levels / 255) ** 2, view.maps, atol=1 / 255)
    assert data["id"] == payload[:DIGEST].hex()
    assert [view.heads[place] for place, _, _ in data["heads"]] == list(view.heads)
    assert names(app) == [str(head) for head in view.heads] and data["selected"] == [1, 3]


def test_a_click_sends_no_patterns_anew(app: AppTest) -> None:
    opened(app, head="1.3", **OPEN)
    before, data = sent(app), component_data(app)
    app.text_input(key="head").set_value("0.2").run()
    assert sent(app) == before and component_data(app) == {**data, "selected": [0, 2]}
    app.segmented_control(key=model_view.MIRROR).set_value(ROOT).run()
    assert app.query_params[detail.COLOUR] == ROOT and app.segmented_control(key=detail.COLOUR).value == ROOT
    app.segmented_control(key="patterns-order").set_value(model_view.SCORE).run()
    assert sent(app) == before and component_data(app)["scale"] == ROOT and not component_data(app)["by_layer"]
    assert app.query_params["patterns-order"] == model_view.SCORE and app.query_params["patterns-count"] == "10"


@pytest.mark.parametrize(("score", "by_size"), [("entropy", False), ("induction", False), (ATTRIBUTION, True)])
def test_heads_are_ranked_by_the_selected_score(app: AppTest, score: str, by_size: bool) -> None:
    opened(app, prompt=REPEATING, head="1.3", score=score, **BY_SCORE)
    values = record_of(REPEATING)[1].scores[score]
    strength = np.abs(values) if by_size else values
    order = sorted(np.ndindex(*values.shape), key=lambda at: -strength[at])
    assert names(app) == [f"{i}.{j}" for i, j in order[:10]]
    assert component_data(app)["values"] == [f"{values[at]:z.3g}".replace("-", "\N{MINUS SIGN}") for at in order[:10]]
    app.segmented_control(key="patterns-count").set_value("all").run()
    assert names(app) == [f"{i}.{j}" for i, j in order]


def test_heads_without_a_value_are_not_ranked() -> None:
    view = wb.model_view(wb.load("tiny"), REPEATING, cache=False)
    values = np.full((2, 8), np.nan)
    values[1, 2], values[0, 5], values[1, 7] = 0.5, -3.0, 0.1
    score = Score(values, "A score", "units", "")
    assert [str(head) for head in model_view.ranked(view, score)] == ["1.2", "1.7", "0.5"]
    assert [str(head) for head in model_view.ranked(view, replace(score, by_size=True))] == ["0.5", "1.2", "1.7"]


def test_a_score_without_values_has_no_ranking_and_says_so(app: AppTest) -> None:
    opened(app, head="1.3", score="patching_effect", **BY_SCORE)
    assert KEY not in components(app) and not app.error
    assert any("No head has a value of this score" in caption.value for caption in app.caption)


def test_layers_without_patterns_are_said(app: AppTest) -> None:
    opened(app, head="0.3", operators="1=lightning", **OPEN)
    assert {layer for _, layer, _ in component_data(app)["heads"]} == {0}
    assert any("Layer 1 is left out" in caption.value for caption in app.caption)


def test_long_prompts_are_pooled_and_the_page_says_by_how_much(app: AppTest) -> None:
    opened(app, head="1.3", prompt="Mary and John " * 15, **OPEN)
    assert component_data(app)["side"] == 23
    assert "46 positions, pooled: each cell is the largest weight of 2 × 2 positions" in component_data(app)["note"]
