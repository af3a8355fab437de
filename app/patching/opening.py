"""The page Patching opened from another page, with a head in the set or with two prompts as a pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import url_widgets
from app.page import views
from app.patching import circuit_builder, manual_edits, pairs_input
from app.work.stored_pairs import StoredPairs
from workbench.core import Head
from workbench.inputs.rows import Pair

ABLATE_HELP = (
    "Puts the head into the set of heads that are edited, sets it to zero at every position, and shows the next token "
    "before and after, on the page Patching."
)


def ablate_button(head: Head, key: str, **options: Any) -> bool:
    """The button that ablates a head; whether it was pressed. The caller then calls `ablate`."""
    return st.button(f"Ablate {head}", key=key, help=ABLATE_HELP, icon=":material/content_cut:", **options)


def ablate(head: Head, task_prompt: str = "") -> None:
    """Open the page with the head in the set, set to zero.

    Args:
        task_prompt: the number of the task's prompt that is edited; the side bar's prompt by default.
    """
    circuit_builder.add_heads([head])
    values = {manual_edits.KIND: "zero", manual_edits.AT: manual_edits.EVERYWHERE, manual_edits.ON: manual_edits.PROMPT}
    if task_prompt:
        values |= {
            manual_edits.ON: task_prompt,
            manual_edits.RUN: manual_edits.CLEAN,
            pairs_input.SOURCE: pairs_input.TASK,
        }
    _open(values)


def patch_pair(pair: Pair) -> None:
    """Open the page with a pair, the set patched from clean into corrupt, as the default sweep does.

    Raises:
        BadInput: it is too large.
    """
    row = {"clean": pair.clean, "corrupt": pair.corrupt, "answer": list(pair.answer), "wrong": list(pair.wrong)}
    pairs_input.open_pairs(StoredPairs((row,), ("",), edited=True))
    values = {pairs_input.SOURCE: pairs_input.OWN, manual_edits.ON: "1", manual_edits.KIND: "patch"}
    _open(values | {manual_edits.RUN: manual_edits.CORRUPT})


def _open(values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        url_widgets.set_for_next_page(key, value)
    st.switch_page(views()["patching"])
