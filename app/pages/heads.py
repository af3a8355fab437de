"""Heads: all heads of the model on one prompt, and one head in detail; or two prompts, heads or models side by side."""

from __future__ import annotations

from itertools import chain
from typing import Any

import streamlit as st

from app import part, sidebar, task_inputs, url_widgets
from app.fragment import rerun_alone
from app.heads import detail, score_grid, second_selection, task_scores, weights_summary
from app.heads.asking import PAIR_SCORE, asking_widgets
from app.heads.comparison import show_comparison
from app.heads.selection import Selection, sidebar_selection
from app.heads.view import PARTS, View
from app.page import Page
from app.work.ahead import AHEAD

HELP = (
    "**Colour heads by** selects the score that the grid shows. **Scores on** a task takes the mean over its prompts, "
    "with an interval for each head. **Compare** shows a second prompt, head or model beside the first."
)

PAIR_HELP = "The pair: the position that you ask about, and the one that it is paired with, below the grid."


@rerun_alone("Heads")
def render() -> None:
    """The page."""
    score_column, head_column, compare_column, kind_column = st.columns([4, 3, 2, 4], vertical_alignment="bottom")
    with score_column:
        score_name = score_grid.score_widget()
    with head_column:
        sidebar.head_widget()
    with compare_column:
        comparing = url_widgets.toggle("Compare", "compare")
    with kind_column:
        kind = second_selection.comparison_kind() if comparing else task_scores.source_widget()
    if comparing:
        first = sidebar_selection()
        second = second_selection.second_selection(first, kind)
        show_comparison(first, second, kind, score_name)
        return
    second_selection.remove_params()
    prompts = None
    if kind == task_scores.TASK:
        prompts = task_inputs.task_widgets()
    else:
        task_inputs.hidden_widgets()
    name = sidebar.model_name()
    selection = sidebar_selection() if prompts is None else task_scores.prompt_selection(name, prompts)
    _show(selection, score_name, prompts)


def _show(selection: Selection, score_name: str, prompts: dict[str, Any] | None) -> None:
    """The parts. The page's own controls are what all of them need: the score of the grid and the position."""
    some = part.parts(PARTS, selection.model.modality)
    left, right = st.columns([6, 5], gap="medium")
    with left:
        above, own = st.container(), st.container()
        with own:
            st.subheader(f"Head {selection.head}", anchor=False)
            asking = asking_widgets(selection.record, selection.head)
            detail.show_text(selection.record, selection.head, asking, detail.selected_colours())
        with above:
            if score_name == PAIR_SCORE:
                st.caption(score_grid.pair_line(), help=PAIR_HELP)
            if prompts is None or score_name not in task_scores.AVERAGED:
                score = score_grid.selected_score(selection, score_name, asking)
            else:
                score = task_scores.task_score(selection, score_name, prompts)
    view = View(selection, score_name, score, asking, prompts)
    with above:
        part.render(some, part.LEFT, view)
    with right:
        part.render(some, part.RIGHT, view)
    part.render(some, part.BELOW, view)
    others = chain(detail.other_heads(selection), weights_summary.other_heads(selection, asking.dest))
    AHEAD.compute((selection.model_name, tuple(selection.record.ids.tolist()), asking.dest), others)


page = Page(
    "heads",
    "Heads",
    "grid_view",
    1,
    render,
    ("language",),
    sidebar.INPUT,
    HELP,
    PARTS,
    "Type a prompt, choose a score, and click a cell of the grid to open that head; then click a token to ask.",
)
