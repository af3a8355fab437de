"""Heads: every head of the model on one prompt, and one head closely; or two prompts, heads or models side by side."""

from __future__ import annotations

import streamlit as st

from app import chosen, options
from app.heads import compare, head_choice, head_compare, head_summary, head_view
from app.heads.head_background import LISTED
from app.heads.side import Side, chosen_side
from app.page import Page


def render() -> None:
    """The page."""
    first = chosen_side()
    chosen.suggest(first.look.strongest)
    choice_, on_, kind_ = st.columns([5, 2, 4], vertical_alignment="bottom")
    with choice_:
        choice = head_choice.choose()
    with on_:
        comparing = options.toggle("Compare", "compare")
    if not comparing:
        compare.leave()
        _one(first, choice)
        return
    with kind_:
        kind = compare.kind()
    head_compare.draw(first, compare.second(first, kind), kind, choice)


def _one(side: Side, choice: str) -> None:
    left, right = st.columns([6, 5], gap="medium")
    with left:
        head_choice.draw(head_choice.of(side, choice), side.head, "grid", chosen.choose)
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
