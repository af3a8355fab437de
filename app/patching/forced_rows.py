"""Attention rows that are forced by hand: a head's row at one position, spread evenly over chosen positions.

In the link ``force=23.3@14>3+5``: head 23.3, at position 14, attends to 3 and 5 alone, half each.
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
_ROW, _TO, _ROWS, _PICKED = "force-row", "force-to", "kept-forced", "forced-rows"
_WRITTEN = re.compile(r"(\d{1,4}\.\d{1,4})@(\d{1,4})>(\d{1,4}(?:\+\d{1,4})*)")


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


def parse_rows(text: str) -> list[ForcedRow]:
    """The rows that a link names; what is none is left out."""
    matches = [_WRITTEN.fullmatch(part) for part in text.split(",")]
    return [ForcedRow(Head.parse(m[1]), int(m[2]), tuple(map(int, m[3].split("+")))) for m in matches if m]


def valid_rows(model: Any, length: int) -> list[ForcedRow]:
    """The forced rows that this model and a prompt of that length have."""
    if _ROWS not in st.session_state or url_state.navigated_back():
        st.session_state[_ROWS] = parse_rows(url_state.get_param(FORCE) or "")
    return [
        forced
        for forced in st.session_state[_ROWS]
        if forced.head.layer < model.n_layers
        and forced.head.index < model.n_heads
        and forced.row < length
        and max(forced.to) <= forced.row
    ]


def widgets(model: Any, head: Head, tokens: Sequence[str]) -> list[ForcedRow]:
    """The widgets, and the rows."""
    last, names = len(tokens) - 1, numbered(tokens)
    st.session_state[_ROW] = min(st.session_state.get(_ROW, last), last)
    row = st.selectbox(
        f"Force the attention of head {head} at", range(len(tokens)), key=_ROW, format_func=names.__getitem__
    )
    st.session_state[_TO] = [place for place in st.session_state.get(_TO, []) if place <= row]
    to = st.multiselect(
        "onto",
        range(row + 1),
        key=_TO,
        format_func=names.__getitem__,
        placeholder="tokens that it may see",
        filter_mode="contains",
        select_all=False,  # or Enter picks all tokens that are written alike
        wrap=True,
    )
    st.button(
        "Force this row",
        key="force-it",
        on_click=_force,
        args=(ForcedRow(head, row, tuple(sorted(to))),),
        disabled=not to,
    )
    now = valid_rows(model, len(tokens))
    if now:
        st.session_state[_PICKED] = now
        say = partial(describe, tokens=tokens)
        st.multiselect("Forced rows", now, key=_PICKED, on_change=_picked, format_func=say, wrap=True)
    if now:
        url_state.set_param(FORCE, ",".join(map(str, now)))
    else:
        url_state.remove_param(FORCE)
    return now


def overridden_heads(forced: Sequence[ForcedRow], heads: Sequence[Head], everywhere: bool, last: int) -> list[str]:
    """The heads whose forced row changes nothing, as what they give at that position is replaced besides."""
    return sorted({str(row.head) for row in forced if row.head in heads and (everywhere or row.row == last)})


def describe(forced: ForcedRow, tokens: Sequence[str]) -> str:
    """For people."""
    names = numbered(tokens)
    return f"{forced.head} at {names[forced.row]} → {', '.join(names[i] for i in forced.to)}"


def _force(forced: ForcedRow) -> None:
    others = [f for f in st.session_state.get(_ROWS, []) if (f.head, f.row) != (forced.head, forced.row)]
    st.session_state[_ROWS] = sorted([*others, forced])
    st.session_state[_TO] = []


def _picked() -> None:
    st.session_state[_ROWS] = list(st.session_state[_PICKED])
