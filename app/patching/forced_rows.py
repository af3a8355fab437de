"""Forced attention rows: a head's row of the pattern at one position, spread evenly over selected positions.

In the URL ``force=23.3@14>3+5``: head 23.3, at position 14, attends to 3 and 5 only, half each.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import streamlit as st

from app import url_state
from workbench.core import Edit, Head
from workbench.plotting.attention_view import numbered

FORCE = "force"
_ROW, _TO, _ROWS, _SELECTED = "force-row", "force-to", "saved-forced-rows", "forced-rows"
_FORMAT = re.compile(r"(\d{1,4}\.\d{1,4})@(\d{1,4})>(\d{1,4}(?:\+\d{1,4})*)")
#: Characters of an entry that a warning quotes.
_QUOTED = 40


@dataclass(frozen=True, order=True)
class ForcedRow:
    """One forced row."""

    head: Head
    row: int
    to: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.head}@{self.row}>{'+'.join(map(str, self.to))}"

    def edit(self) -> Edit:
        """The same for `workbench.run`."""
        return Edit("pattern", self.head.layer, self.head.index, self.row, kind="pattern", attend_to=self.to)

    def fits(self, model: Any, length: int) -> bool:
        """Whether the model has the head, and a prompt of that length the positions."""
        has_head = self.head.layer < model.n_layers and self.head.index < model.n_heads
        return has_head and self.row < length and max(self.to) <= self.row


def parse_rows(text: str) -> list[ForcedRow]:
    """The rows in the URL; what is not one is left out."""
    return [row for row in map(_parse_row, text.split(",")) if row is not None]


def valid_rows(model: Any, length: int) -> list[ForcedRow]:
    """The forced rows that fit this model and a prompt of that length. The others are named and left out: they are of a
    prompt or a model that was there before, and do not come back with it."""
    if _ROWS not in st.session_state or url_state.navigated_back():
        text = url_state.get_param(FORCE) or ""
        _warn_if_left_out(text, model, length)
        st.session_state[_ROWS] = [row for row in parse_rows(text) if row.fits(model, length)]
    rows: list[ForcedRow] = st.session_state[_ROWS]
    st.session_state[_ROWS] = fitting = [row for row in rows if row.fits(model, length)]
    if left_out := [str(row) for row in rows if row not in fitting]:
        text = ", ".join(left_out)[:_QUOTED]
        url_state.warn(f"This prompt or model does not have the forced row{'s'[: len(left_out) - 1]} {text}. Left out.")
    return fitting


def row_widgets(model: Any, head: Head, tokens: Sequence[str]) -> list[ForcedRow]:
    """The widgets, and the rows."""
    last, names = len(tokens) - 1, numbered(tokens)
    st.session_state[_ROW] = min(st.session_state.get(_ROW, last), last)
    row = st.selectbox(
        f"Force the attention of head {head} at", range(len(tokens)), key=_ROW, format_func=names.__getitem__
    )
    st.session_state[_TO] = [position for position in st.session_state.get(_TO, []) if position <= row]
    to = st.multiselect(
        "onto",
        range(row + 1),
        key=_TO,
        format_func=names.__getitem__,
        placeholder="positions up to this one",
        filter_mode="contains",
        select_all=False,  # or Enter selects all tokens of the same text
        wrap=True,
    )
    forced = ForcedRow(head, row, tuple(sorted(to)))
    st.button("Force this row", key="force-it", on_click=_add, args=(forced,), disabled=not to)
    rows = valid_rows(model, len(tokens))
    if rows:
        st.session_state[_SELECTED] = rows
        label = partial(describe, tokens=tokens)
        st.multiselect("Forced rows", rows, key=_SELECTED, on_change=_keep_selected, format_func=label, wrap=True)
        url_state.set_param(FORCE, ",".join(map(str, rows)))
    else:
        url_state.remove_param(FORCE)
    return rows


def overridden_heads(rows: Sequence[ForcedRow], heads: Sequence[Head], everywhere: bool, last: int) -> list[str]:
    """The heads whose forced row has no effect, because their output at that position is edited, too."""
    return sorted({str(row.head) for row in rows if row.head in heads and (everywhere or row.row == last)})


def describe(row: ForcedRow, tokens: Sequence[str]) -> str:
    """``23.3 at 14 to → 3 and``, with positions and tokens."""
    names = numbered(tokens)
    return f"{row.head} at {names[row.row]} → {', '.join(names[i] for i in row.to)}"


def _parse_row(text: str) -> ForcedRow | None:
    match = _FORMAT.fullmatch(text)
    if match is None:
        return None
    return ForcedRow(Head.parse(match[1]), int(match[2]), tuple(map(int, match[3].split("+"))))


def _warn_if_left_out(text: str, model: Any, length: int) -> None:
    entries = [(part, _parse_row(part)) for part in text.split(",") if part]
    left_out = [part[:_QUOTED] for part, row in entries if row is None or not row.fits(model, length)]
    if left_out:
        url_state.warn(
            f"The URL has force={','.join(left_out)[:_QUOTED]}, which this prompt or model does not have. Left out."
        )


def _add(row: ForcedRow) -> None:
    others = [old for old in st.session_state.get(_ROWS, []) if (old.head, old.row) != (row.head, row.row)]
    st.session_state[_ROWS] = sorted([*others, row])
    st.session_state[_TO] = []


def _keep_selected() -> None:
    st.session_state[_ROWS] = list(st.session_state[_SELECTED])
