"""The open head under another operator: the page shows what `workbench.operator_view` gives, and the URL has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import sidebar
from app.heads import detail
from tests.app.heads.rendered import opened, patterns
from tests.app.heads.tables import ROUNDED, small_tables
from workbench.plotting import attention_view
from workbench.plotting.operator_view import HeadOutput

KEYS = ("operator-own", "operator-swapped")


def view_of(operator: str, prompt: str = sidebar.DEFAULT_PROMPT) -> wb.OperatorView:
    return wb.operator_view(wb.load("tiny"), prompt, 1, 3, operator, cache=False)


def matrix(side: HeadOutput) -> np.ndarray:
    assert side.matrix is not None
    return side.matrix


def test_nothing_is_computed_before_an_operator_is_selected(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wb, "operator_view", None)
    opened(app, head="1.3")
    assert not app.error and not set(KEYS) & set(patterns(app))


def test_both_patterns_are_on_one_scale_beside_what_it_would_write(app: AppTest) -> None:
    opened(app, head="1.3", operator="sliding-window", **{"sliding-window.window": "3"})
    assert not app.error
    view, charts = view_of("sliding-window(window=3)"), patterns(app)
    for key, side in zip(KEYS, (view.own, view.swapped), strict=True):
        np.testing.assert_allclose(charts[key]["values"], matrix(side), atol=1e-5)
    assert charts[KEYS[0]]["scale"] == charts[KEYS[1]]["scale"]
    tables = [table.value for table in app.dataframe]
    small = small_tables(app)
    promoted, next_tokens = (t for t in small if list(t.columns) == ["token", "own", "swapped"])
    for table, expected in ((promoted, view.promoted(4)), (next_tokens, view.next_tokens(4))):
        np.testing.assert_allclose(table[["own", "swapped"]], expected[["own", "swapped"]], atol=ROUNDED)
    norms = next(t for t in tables if "cosine" in t.columns and "swapped" in t.columns)
    np.testing.assert_allclose(norms["swapped"], view.table()["swapped"], rtol=1e-4)


def test_the_url_keeps_the_choice_and_forgets_other_operators(app: AppTest) -> None:
    opened(app, head="1.3", operator="sliding-window", **{"sliding-window.window": "3", "lightning.norm": "no"})
    assert app.query_params["sliding-window.window"] == "3" and "lightning.norm" not in app.query_params
    app.number_input(key="sliding-window.window").set_value(5).run()
    assert app.query_params["sliding-window.window"] == "5"
    app.selectbox(key="operator").set_value("lightning").run()
    assert not app.exception and not app.error
    assert app.query_params["operator"] == "lightning" and app.query_params["lightning.norm"] == "yes"
    assert "sliding-window.window" not in app.query_params
    app.selectbox(key="operator").set_value("none").run()
    assert app.query_params["operator"] == "none" and "lightning.norm" not in app.query_params


def test_signed_matrices_are_shown_as_shares_or_as_they_are(app: AppTest) -> None:
    opened(app, head="1.3", operator="lightning", **{"lightning.norm": "no"})
    view, charts = view_of("lightning(norm=False)"), patterns(app)
    assert charts[KEYS[0]]["scale"] == charts[KEYS[1]]["scale"] and charts[KEYS[0]]["scale"]["diverging"]
    sums = np.abs(matrix(view.swapped)).sum(-1, keepdims=True)
    np.testing.assert_allclose(charts[KEYS[1]]["values"], matrix(view.swapped) / sums, atol=1e-5)
    np.testing.assert_allclose(charts[KEYS[0]]["values"], matrix(view.own), atol=1e-5)
    app.toggle(key="shares").set_value(False).run()
    assert not app.exception and app.query_params["shares"] == "no"
    np.testing.assert_allclose(patterns(app)[KEYS[1]]["values"], matrix(view.swapped), rtol=1e-3, atol=1e-3)


def test_a_long_prompt_is_pooled_or_shown_by_the_pages_range(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_view, "MAX_CELLS", 20)
    monkeypatch.setattr(detail, "LONG", 20)
    text = "Mary and John " * 15
    opened(app, head="1.3", prompt=text, operator="sliding-window", **{"sliding-window.window": "4"})
    assert max(patterns(app)[KEYS[1]]["values"].shape) <= 20
    app.text_input(key="zoom").set_value("10-19,10-19").run()
    expected = matrix(view_of("sliding-window(window=4)", text).swapped)
    np.testing.assert_allclose(patterns(app)[KEYS[1]]["values"], expected[10:20, 10:20], atol=1e-5)


def test_what_cannot_be_swapped_in_is_one_line(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.attention.operators import softmax

    paired = softmax.operator.__class__(name="softmax", version=1, source="", status="control", role="pair")
    monkeypatch.setattr(softmax, "operator", paired)
    opened(app, head="1.3", operator="softmax")
    (error,) = app.error
    assert "cannot replace attention" in error.value and "\n" not in error.value
    assert "pattern" in patterns(app)  # the rest of the page is there


def test_an_operator_without_a_matrix_shows_its_influence(app: AppTest) -> None:
    opened(app, head="1.3", operator="mlp")
    assert not app.error and set(KEYS) <= set(patterns(app))
    view = view_of("mlp")
    assert view.swapped.scale in patterns(app)[KEYS[1]]["units"]
    assert any("no matrix of each head" in caption.value for caption in app.caption)


def test_widgets_are_made_of_any_setting(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.attention.operators import softmax
    from workbench.attention.settings import Setting

    settings = {
        "size": Setting(2, "whole number", "a size", at_least=1, at_most=4),
        "rate": Setting(0.5, "number", "a rate", above=0),
        "on": Setting(True, "flag", "whether"),
        "how": Setting("first", "word", "how", choices=("first", "second")),
        "most": Setting(None, "whole number", "a limit", at_least=1, optional=True),
        "axes": Setting((2, 3), "sizes", "sizes", at_least=1),
    }
    values: list[Any] = []

    def mask(q: torch.Tensor, k: torch.Tensor, call: Any) -> torch.Tensor:
        values.append(dict(call.settings))
        return torch.ones(1, 1, q.shape[2], k.shape[2], dtype=torch.bool)

    odd = softmax.operator.__class__(
        name="softmax", version=1, source="", status="control", settings=settings, mask=mask
    )
    monkeypatch.setattr(softmax, "operator", odd)
    opened(app, head="1.3", operator="softmax", **{"softmax.size": "3", "softmax.most": "7", "softmax.axes": "(4, 5)"})
    assert not app.error
    expected = {"size": 3, "rate": 0.5, "on": True, "how": "first", "most": 7, "axes": (4, 5)}
    assert values[-1] == expected
    app.number_input(key="softmax.rate").set_value(0.0).run()
    assert "expected a number above 0" in app.error[0].value.replace("\\", "")
    app.number_input(key="softmax.rate").set_value(0.25)
    app.toggle(key="softmax.on").set_value(False)
    app.text_input(key="softmax.most").set_value("None").run()
    assert not app.error and values[-1] == {**expected, "rate": 0.25, "on": False, "most": None}
