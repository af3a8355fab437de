"""The widgets that select the pairs to patch: a task's, or the user's own, typed or uploaded, stored by their hash."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import pandas as pd
import streamlit as st

from app import task_inputs, upload_store, url_state, url_widgets
from app.messages import escape_markdown, show_error
from app.patching import pairs_table
from app.task_inputs import MAX_PROMPTS
from app.work.prompts import read_pairs
from workbench.errors import UsageError, WorkbenchError

TASK, OWN = "a task", "pairs of my own"
#: URL parameters: where pairs come from, and the hash of the user's own.
SOURCE, PAIRS = "source", "pairs"
_TEXT = "When {0} and {1} went out, {2} gave a {3} to"
_EXAMPLE = [
    {"clean": _TEXT.format(a, b, b, it), "corrupt": _TEXT.format(a, b, a, it), "answer": f" {a}", "wrong": f" {b}"}
    for a, b, it in (("Anna", "Paul", "rose"), ("Mark", "Lucy", "book"))
]
_STORED, _EDITOR, _ERROR, _UPLOAD = "pairs-stored", "pairs-editor", "pairs-error", "pairs-file"


def pairs_widgets() -> dict[str, Any]:
    """The widgets, and the selected prompts as `load_prompts` takes them."""
    source = url_widgets.segments("Patch on", [TASK, OWN], SOURCE)
    if source == OWN:
        return {"pairs": _own_pairs()}
    return task_inputs.task_widgets()


def open_pairs(name: str) -> None:
    """Show stored pairs of that hash when the page is rendered next, with a new editor."""
    st.session_state[_STORED] = name
    st.session_state[_EDITOR] = st.session_state.get(_EDITOR, 0) + 1


def _own_pairs() -> str:
    """The hash of the user's pairs; of the example's at first."""
    st.file_uploader("Upload pairs (.jsonl, .json, .csv)", ["jsonl", "json", "csv"], key=_UPLOAD, on_change=_upload)
    if error := st.session_state.pop(_ERROR, None):
        show_error(error)
    if _STORED not in st.session_state or url_state.navigated_back():
        st.session_state[_STORED] = _from_url()
        st.session_state[_EDITOR] = st.session_state.get(_EDITOR, 0) + 1  # a new editor, without the old edits
    stored = st.session_state[_STORED]
    stored_table = pd.DataFrame(pairs_table.to_table(pairs_table.load_rows(stored)), columns=list(pairs_table.COLUMNS))
    st.caption(
        "The clean and corrupt prompts must have the same number of tokens. An answer is one token, usually with a "
        "leading space, which is shown and typed as ·. Separate several answers with |."
    )
    editor = f"pairs-{stored}-{st.session_state[_EDITOR]}"
    edited = st.data_editor(stored_table, num_rows="dynamic", hide_index=True, key=editor)
    name = _save_if_edited(stored, edited, stored_table)
    rows = pairs_table.to_table(pairs_table.load_rows(name))
    if answers := pairs_table.spell_answers(rows):
        st.caption(escape_markdown(answers))
    if without := pairs_table.count_without_space(rows):
        st.warning(f"{without} of {len(rows)} pairs have an answer without a leading space. Type ·Mary for “ Mary”.")
    url_state.set_param(PAIRS, name)
    return name


def _save_if_edited(stored: str, edited: pd.DataFrame, stored_table: pd.DataFrame) -> str:
    """The hash of the table's rows: of the file as it was uploaded where nothing was typed, with its positions."""
    rows = [row for row in edited.fillna("").to_dict("records") if any(row.values())]
    if rows == stored_table.to_dict("records"):
        return stored
    return pairs_table.save_rows(pairs_table.from_table(rows))


def _from_url() -> str:
    name = url_state.get_param(PAIRS)
    if name is not None:
        try:
            upload_store.load(name)
            return name
        except WorkbenchError as error:
            url_state.warn(str(error))
    return pairs_table.save_rows(_EXAMPLE)


def _upload() -> None:
    """Store the pairs of an uploaded file; a callback."""
    upload = st.session_state[_UPLOAD]
    if upload is None:
        return
    try:
        pairs = read_pairs(upload.getvalue(), PurePath(upload.name).name)
        if len(pairs) > MAX_PROMPTS:
            raise UsageError(
                f"{upload.name}: {len(pairs)} pairs, and the limit here is {MAX_PROMPTS}. Use fewer pairs, or "
                "wb.sweep in Python."
            )
        st.session_state[_STORED] = pairs_table.save_rows(pairs_table.to_rows(pairs.items))
    except WorkbenchError as error:
        st.session_state[_ERROR] = str(error)
