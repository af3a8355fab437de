"""From two compared prompts to the page Patching: the prompts as a pair."""

from __future__ import annotations

import streamlit as st

import workbench as wb
from app.heads.selection import Selection
from app.messages import show_errors
from app.patching import opening

HELP = (
    "Opens the page Patching with the first prompt as the clean one and the second as the corrupt one. The answers are "
    "the likeliest next token of each, and you can change them there."
)


def patch_button(first: Selection, clean: str, corrupt: str) -> None:
    """The button; why not, in one line, where the prompts are no pair.

    Args:
        first: the side of the comparison whose model is patched.
        clean, corrupt: the two prompts.
    """
    if st.button("Patch these two prompts", key="patch-these", help=HELP, icon=":material/healing:"):
        with show_errors():
            opening.patch_pair(wb.prompt_pair(first.model, clean, corrupt).items[0])
