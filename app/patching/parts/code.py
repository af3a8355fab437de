"""The Python code that gives what the page shows."""

from __future__ import annotations

import streamlit as st

from app import sidebar
from app.part import BELOW, Part
from app.patching import generated
from app.patching.script import python_script
from app.patching.view import PatchingView


def render(view: PatchingView) -> None:
    """The script, folded."""
    with st.expander("Show as code", icon=":material/code:"):
        count = generated.selected_count()
        script = python_script(
            view.model_name, view.pairs.prompts, view.arguments, view.edited, sidebar.prompt(), view.edits, count
        )
        st.code(script, language="python")


part = Part("code", 30, BELOW, render, help="**Show as code**: Python that computes what the page shows.")
