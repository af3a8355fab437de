"""The grid of all heads: without values before a sweep, with its values after; a click selects a head, or adds it."""

from __future__ import annotations

import streamlit as st

from app import sidebar, url_widgets
from app.part import LEFT, Part
from app.patching import circuit_builder, sweep_view
from app.patching.view import PatchingView
from workbench.core import Head

HELP = (
    "**Grid**: one cell per head; frames are the heads of the set. After a sweep the colour is the *effect* of a patch "
    "(0: the base run, 1: the source run) or, for edits without a source, the mean change of the metric."
)


def render(view: PatchingView) -> None:
    """The grid, or the heatmap of a sweep that is not over heads."""
    sweep = view.sweep
    if sweep is not None and (warning := sweep_view.task_warning(sweep, view.arguments.get("direction") == "denoise")):
        st.warning(warning)
    toggles = url_widgets.toggle("A click also adds or removes the head", "adding")

    def on_pick(head: Head) -> None:
        sidebar.select_head(head)
        if toggles and (sweep is None or "kv_head" not in sweep.axes):  # several heads share a key/value head
            circuit_builder.toggle_head(head)

    marked = frozenset(view.heads)
    if sweep is None:
        sweep_view.show_heads(view.model, view.head, marked, on_pick)
        return
    sweep_view.show_sweep(sweep, view.head, marked, on_pick, view.model.n_heads // view.model.n_kv_heads)


part = Part("grid", 10, LEFT, render, help=HELP)
