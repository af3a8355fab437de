"""Edits of the set of heads in some steps and passes: widgets, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import url_state, url_widgets
from app.diffusion.passes import edited_pass, in_words, passes_widget
from workbench.core import Edit, Head

KIND, FIRST, LAST, PASSES = "set-edit", "set-first-step", "set-last-step", "set-passes"
LABELS = {
    "zero": "set to zero",
    "patch": "patched from the other class’s run",
    "identity": "each patch attends to itself",
}
HELP = (
    "What is done to every head of the set: to z, its attention-weighted sum of values before W_O, or to its pattern."
)


def edit_widgets(model: Any, heads: Sequence[Head]) -> tuple[tuple[Edit, ...], str]:
    """The edits, and what they are in words.

    Args:
        model: sampled as the page says.
    """
    n_steps = model.n_steps
    kind = url_widgets.select("Edit of the set", list(LABELS), KIND, format_func=LABELS.__getitem__, help=HELP)
    first_column, last_column, passes_column = st.columns([2, 2, 3])
    with first_column:
        first = url_widgets.number("From step", 0, n_steps - 1, FIRST, 0)
    with last_column:
        last = url_widgets.number("To step", 0, n_steps - 1, LAST, n_steps - 1, help="This one included.")
    with passes_column:
        passes = passes_widget(model, PASSES)
    if first > last:
        url_state.warn(f"From step {first} to step {last} there is none. Both are edited, and those between them.")
        first, last = last, first
    steps = tuple(selected_steps(n_steps))
    settings: dict[str, Any] = {"site": "pattern", "kind": "identity", "u": 1.0}
    if kind != "identity":
        settings = {"site": "z", "kind": kind}
    every = None if len(steps) == n_steps else steps
    settings |= {"position": edited_pass(passes), "step": every}
    edits = tuple(Edit(layer=head.layer, head=head.index, **settings) for head in heads)
    when = "in every step" if every is None else f"in step {first}" if first == last else f"in steps {first} to {last}"
    names = ", ".join(map(str, heads))
    parts = (f"head{'s' * (len(heads) > 1)} {names}: {LABELS[kind]}", when, in_words(passes))
    return edits, ", ".join(filter(None, parts))


def selected_steps(n_steps: int) -> range:
    """The steps in which the set is edited, also before the widgets are made."""
    first = url_widgets.current_number(0, n_steps - 1, FIRST, 0)
    last = url_widgets.current_number(0, n_steps - 1, LAST, n_steps - 1)
    return range(min(first, last), max(first, last) + 1)
