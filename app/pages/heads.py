"""Heads: every head of the model on one prompt, and one head closely; or two prompts, heads or models side by side."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import chosen, options, tasks
from app.heads import compare, head_choice, head_compare, head_summary, head_task, head_view
from app.heads.head_background import LISTED
from app.heads.side import Side, chosen_side
from app.page import Page


def render() -> None:
    """The page."""
    choice_, on_, kind_ = st.columns([5, 2, 4], vertical_alignment="bottom")
    with choice_:
        choice = head_choice.choose()
    with on_:
        comparing = options.toggle("Compare", "compare")
    with kind_:
        kind = compare.kind() if comparing else head_task.source()
    if comparing:
        first = chosen_side()
        chosen.suggest(first.look.strongest)
        head_compare.draw(first, compare.second(first, kind), kind, choice)
        return
    compare.leave()
    asked = tasks.choose() if kind == head_task.TASK else None
    side = chosen_side() if asked is None else head_task.closely(chosen.model_name(), asked)
    chosen.suggest(side.look.strongest)
    _one(side, choice, asked)


def _one(side: Side, choice: str, asked: dict[str, Any] | None) -> None:
    left, right = st.columns([6, 5], gap="medium")
    with left:
        if asked is None or choice not in head_task.AVERAGED:
            score = head_choice.of(side, choice)
        else:
            score = head_task.of(side, choice, asked)
        head_choice.draw(score, side.head, "grid", chosen.choose, about=side.about)
        st.subheader(f"Head {side.head}", anchor=False)
        dest = head_view.destination(side.look)
        head_view.attended(side.look, side.head, dest)
    with right:
        head_view.heatmap(side)
    left, right = st.columns([6, 5], gap="medium")
    with left:
        head_view.tables(side)
    with right:
        head_summary.draw(side, waits=choice in LISTED)
        head_summary.promotes(side, dest)


page = Page("heads", "Heads", "grid_view", 1, render)
