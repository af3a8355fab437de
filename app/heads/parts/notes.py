"""Notes: tags and a text of the open head, and a list of every head that has some."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

import workbench as wb
from app import sidebar
from app.downloadable import download_button
from app.heads.noted import Fields, notes_of
from app.heads.view import View
from app.messages import escape_markdown
from app.part import RIGHT, Part
from workbench.core import Head
from workbench.head_notes.note import Note
from workbench.plotting.source import Source

HELP = (
    "**Notes**: tags and a text for the open head, saved on this machine when you leave the field. They belong to the "
    "model’s name, weights and operators, and are not in the URL; the CSV has a link to this explorer for each head."
)
#: Pixels of the list, and rows without scrolling.
HEIGHT, ROWS = 260, 6
_LIST, _FILTER = "notes-list", "notes-filter"


def render(view: View) -> None:
    """The part."""
    show_notes(view.selection.model_name, view.selection.head)


def show_notes(name: str, head: Head, page: str = "") -> None:
    """The open head's fields, the list and its downloads.

    Args:
        name: the model's name in the explorer.
        page: the name of the page that a note's link opens; empty for the first.
    """
    notes = notes_of(name)
    listed = list(iter(notes))
    tags = sorted({tag for note in listed for tag in note.tags}, key=lambda tag: (tag.casefold(), tag))
    st.markdown("**Notes**")
    Fields(name, head, page).show(next((note for note in listed if note.head == head), Note(head)), tuple(tags))
    if listed:
        _show_list(_filtered(listed, tags))
        _downloads(notes, name)
    if aside := notes.set_aside():
        st.caption(escape_markdown(f"Damaged files of notes were set aside, in {notes.folder}: {', '.join(aside)}."))
    if others := _others(notes):
        st.caption(escape_markdown(f"On this machine are also {others}. workbench notes lists them."))


def _filtered(listed: Sequence[Note], tags: Sequence[str]) -> list[Note]:
    """The notes that have all tags of a filter, which is no URL state: the URL has nothing of the notes."""
    if not tags:
        return list(listed)
    st.session_state[_FILTER] = [tag for tag in st.session_state.get(_FILTER, []) if tag in tags]
    chosen = st.multiselect("List heads tagged", tags, key=_FILTER, placeholder="All heads with a note")
    return [note for note in listed if set(chosen) <= set(note.tags)]


def _show_list(listed: Sequence[Note]) -> None:
    """One row a head; a click opens it."""
    heads = [note.head for note in listed]
    rows = [{"head": str(note.head), "tags": ", ".join(note.tags), "text": note.text} for note in listed]
    key = f"{_LIST}-{zlib.crc32(repr(heads).encode())}"  # a selection is one of these rows

    def open_selected() -> None:
        for row, _ in st.session_state[key].selection.cells:
            if row < len(heads):
                sidebar.select_head(heads[row])

    st.dataframe(
        pd.DataFrame(rows, columns=["head", "tags", "text"]),
        key=key,
        hide_index=True,
        column_config={
            "head": st.column_config.TextColumn(width=50),
            "tags": st.column_config.TextColumn(width=130),
            "text": st.column_config.TextColumn(width="large"),
        },
        on_select=open_selected,
        selection_mode="single-cell",
        height="content" if len(rows) <= ROWS else HEIGHT,
    )


def _downloads(notes: wb.Notes, name: str) -> None:
    """All notes of the model, whatever the filter: the table, and the file that ``workbench notes --import`` reads."""
    file_name = f"notes-{re.sub(r'[^A-Za-z0-9]+', '-', notes.subject.full_name)[:60]}"
    with st.container(horizontal=True):
        for ending, mime in ((".csv", "text/csv"), (".json", "application/json")):
            label = f"Notes as {ending[1:].upper()}"
            download_button(label, _maker(notes, ending), f"{file_name}{ending}", mime, key=f"notes-{ending[1:]}")


def _maker(notes: wb.Notes, ending: str) -> Any:
    if ending == ".csv":
        address = (st.context.url or "").rstrip("/")
        return lambda: Source(notes.subject.full_name).csv(notes.table(address))
    return lambda: notes.to_bytes(ending)


def _others(notes: wb.Notes) -> str:
    """How many notes there are of other weights of the name, and of other operators."""
    counts = {"other weights of this name": 0, "this model with other operators": 0}
    for other in notes.others():
        same_weights = other.subject.weights == notes.subject.weights
        counts["this model with other operators" if same_weights else "other weights of this name"] += len(other)
    return " and ".join(f"{n} note{'s' * (n > 1)} of {whose}" for whose, n in counts.items() if n)


part = Part("notes", 20, RIGHT, render, help=HELP)
