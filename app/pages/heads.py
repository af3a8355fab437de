"""Heads: every head of the model on one prompt, and one head closely; or two prompts, heads or models side by side."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import sidebar, task_inputs, url_widgets
from app.heads import comparison, detail, score_grid, second_selection, task_scores, weights_summary
from app.heads.model_scores import LISTED
from app.heads.selection import Side, chosen_side
from app.page import Page


def render() -> None:
    """The page."""
    choice_, on_, kind_ = st.columns([5, 2, 4], vertical_alignment="bottom")
    with choice_:
        choice = score_grid.choose()
    with on_:
        comparing = url_widgets.toggle("Compare", "compare")
    with kind_:
        kind = second_selection.kind() if comparing else task_scores.source()
    if comparing:
        first = chosen_side()
        sidebar.suggest(first.look.strongest)
        comparison.draw(first, second_selection.second(first, kind), kind, choice)
        return
    second_selection.leave()
    asked = task_inputs.choose() if kind == task_scores.TASK else None
    side = chosen_side() if asked is None else task_scores.closely(sidebar.model_name(), asked)
    sidebar.suggest(side.look.strongest)
    _one(side, choice, asked)


def _one(side: Side, choice: str, asked: dict[str, Any] | None) -> None:
    left, right = st.columns([6, 5], gap="medium")
    with left:
        if asked is None or choice not in task_scores.AVERAGED:
            score = score_grid.of(side, choice)
        else:
            score = task_scores.of(side, choice, asked)
        score_grid.draw(score, side.head, "grid", sidebar.choose, about=side.about)
        st.subheader(f"Head {side.head}", anchor=False)
        dest = detail.destination(side.look)
        detail.attended(side.look, side.head, dest)
    with right:
        detail.heatmap(side)
    left, right = st.columns([6, 5], gap="medium")
    with left:
        detail.tables(side)
    with right:
        weights_summary.draw(side, waits=choice in LISTED)
        weights_summary.promotes(side, dest)


page = Page("heads", "Heads", "grid_view", 1, render)
