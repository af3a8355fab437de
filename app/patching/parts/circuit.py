"""The set as a circuit: roles, files, and its faithfulness."""

from __future__ import annotations

import streamlit as st

from app.messages import show_errors
from app.part import LEFT, Part
from app.patching import circuit_builder
from app.patching.faithfulness import faithfulness
from app.patching.view import PatchingView

HELP = (
    "**Circuit**: the heads of the set, each with a role of your choice; saved and loaded as JSON. *Faithfulness*: how "
    "much of the metric the circuit keeps when every other head is ablated, on prompts that the sweep has not used."
)


def render(view: PatchingView) -> None:
    """Roles, files and faithfulness."""
    st.subheader("Circuit", anchor=False)
    circuit_builder.circuit_widgets(view.model, view.head, view.model_name, view.pairs.name)
    if view.pairs.prompts is not None:
        with show_errors():
            faithfulness(view.model_name, view.pairs.prompts, view.heads)


part = Part("circuit", 30, LEFT, render, help=HELP)
