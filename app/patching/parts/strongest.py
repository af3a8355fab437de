"""The strongest cells of the sweep."""

from __future__ import annotations

import streamlit as st

from app.number_table import in_print
from app.part import LEFT, Part
from app.patching import sweep_view
from app.patching.save_run import save_run_button
from app.patching.view import PatchingView

HELP = (
    "**Strongest cells**: with 95 % bootstrap intervals over the examples; p is corrected for the number of cells "
    "(largest statistic under sign flips). **Save as a run**: the sweep, and the set as its circuit, for the pages "
    "Runs and Circuits."
)


def render(view: PatchingView) -> None:
    """The table; nothing before a sweep."""
    if view.sweep is None:
        return
    table = sweep_view.strongest_table(view.sweep)
    st.dataframe(in_print(table), hide_index=True, height="content")
    save_run_button(view.sweep, view.heads, view.model_name, view.pairs.name)


part = Part("strongest", 20, LEFT, render, help=HELP)
