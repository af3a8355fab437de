"""Patching: a sweep over a task or the user's own pairs, manual edits of a set of heads, and a circuit of that set."""

from __future__ import annotations

from typing import Any

import streamlit as st
import torch

import workbench as wb
from app import models, part, sidebar
from app.components.scroll_to import scroll_to
from app.heads.selection import open_head
from app.messages import show_errors
from app.page import Page
from app.patching import circuit_builder, forced_rows, manual_edits
from app.patching.manual_edits import EditedPrompt
from app.patching.pairs_input import pairs_widgets
from app.patching.requested import do_request
from app.patching.sweep_controls import sweep_result, sweep_widgets
from app.patching.view import PARTS, PatchingView
from workbench.core import Edit, Head
from workbench.plotting import style

HELP = (
    "**Sweep**: one edit for each head (or position, or layer), each measured on every pair. **Manual edits**: all "
    "heads of the set are edited at once, on one prompt; no sweep is needed. **Edited run**: of a pair, the base run."
)
#: Heads that one click adds from a sweep.
STRONGEST = 5


def render() -> None:
    """The page. Its own controls are what all parts need: the pairs, the sweep, and the edits of the set."""
    requested = False
    with show_errors():
        requested = do_request()
    name = sidebar.model_name()
    model = models.load(name)
    head = open_head(name, model)
    pairs = pairs_widgets(model)
    arguments = sweep_widgets()
    sweep: wb.Sweep | None = None
    with show_errors():
        sweep = sweep_result(model, name, pairs, arguments)
    left, right = st.columns([3, 2], gap="medium")
    with right:
        st.subheader("Manual edits", anchor=False)
        strongest, note = _strongest(sweep) if sweep is not None and "head" in sweep.axes else ([], "")
        heads = circuit_builder.set_widgets(model, head, strongest, note)
        effects, forcing = st.container(), st.container()
        edited, edits, description = None, (), ""
        with effects, show_errors():
            edited = manual_edits.prompt_widget(model, name, pairs.prompts)
        if edited is not None:
            edits, description = _edits(model, head, list(heads), edited, effects, forcing)
    view = PatchingView(name, model, head, pairs, arguments, sweep, heads, edited, edits, description)
    some = part.parts(PARTS, model.modality)
    with left:
        part.render(some, part.LEFT, view)
    with effects:
        part.render(some, part.RIGHT, view)
    part.render(some, part.BELOW, view)
    if requested:
        scroll_to(".st-key-by-hand .js-plotly-plot")


def _strongest(sweep: wb.Sweep) -> tuple[list[Head], str]:
    """The heads with the largest effects, and how many of them may have theirs by chance."""
    heads, note = sweep.top(STRONGEST), "The largest effects, whatever their p"
    if sweep.axes != ("layer", "head"):
        return heads, f"{note}."
    n = sum(bool(sweep.p_value[head.layer, head.index] > style.ALPHA) for head in heads)
    return heads, f"{note}: {n} of these have p > {style.ALPHA:g}."


def _edits(
    model: Any, head: Head, heads: list[Head], edited: EditedPrompt, effects: Any, forcing: Any
) -> tuple[tuple[Edit, ...], str]:
    """The edits of the set and of forced rows, and what they are in a few words."""
    with effects:
        kind, at_end = manual_edits.edit_widgets(edited)
    with forcing:
        rows = forced_rows.row_widgets(model, head, model.to_str_tokens(torch.tensor(edited.ids)))
        if overridden := forced_rows.overridden_heads(rows, heads, not at_end, len(edited.ids) - 1):
            st.warning(f"These heads are also in the set, so their forced row has no effect: {', '.join(overridden)}.")
    return manual_edits.to_edits(heads, kind, at_end, rows), manual_edits.describe(edited, heads, kind, at_end, rows)


page = Page("patching", "Patching", "healing", 2, render, ("language",), sidebar.FIELDS, HELP, PARTS)
