"""Heads: every head of the model on one prompt, and one head closely; or two prompts, heads or models side by side."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import sidebar, task_inputs, url_widgets
from app.heads import comparison, detail, score_grid, second_selection, task_scores, weights_summary
from app.heads.model_scores import LISTED
from app.heads.selection import Selection, sidebar_selection
from app.page import Page


def render() -> None:
    """The page."""
    choice_, on_, kind_ = st.columns([5, 2, 4], vertical_alignment="bottom")
    with choice_:
        choice = score_grid.score_widget()
    with on_:
        comparing = url_widgets.toggle("Compare", "compare")
    with kind_:
        kind = second_selection.comparison_kind() if comparing else task_scores.source_widget()
    if comparing:
        first = sidebar_selection()
        sidebar.suggest_head(first.record.strongest_head)
        comparison.show(first, second_selection.second_selection(first, kind), kind, choice)
        return
    second_selection.remove_params()
    asked = task_inputs.task_widgets() if kind == task_scores.TASK else None
    side = sidebar_selection() if asked is None else task_scores.prompt_selection(sidebar.model_name(), asked)
    sidebar.suggest_head(side.record.strongest_head)
    _one(side, choice, asked)


def _one(side: Selection, choice: str, asked: dict[str, Any] | None) -> None:
    left, right = st.columns([6, 5], gap="medium")
    with left:
        if asked is None or choice not in task_scores.AVERAGED:
            score = score_grid.selected_score(side, choice)
        else:
            score = task_scores.task_score(side, choice, asked)
        score_grid.show_score(score, side.head, "grid", sidebar.select_head, about=side.metadata)
        st.subheader(f"Head {side.head}", anchor=False)
        dest = detail.destination_slider(side.record)
        detail.show_attended_tokens(side.record, side.head, dest)
    with right:
        detail.show_pattern(side)
    left, right = st.columns([6, 5], gap="medium")
    with left:
        detail.show_tables(side)
    with right:
        weights_summary.show(side, waits=choice in LISTED)
        weights_summary.show_ov_tokens(side, dest)


page = Page("heads", "Heads", "grid_view", 1, render)
