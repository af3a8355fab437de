"""A table of heads: the open one is marked; a click on a row, or Enter, opens its head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

from workbench.core import Head

FOLDER = Path(__file__).parent


def ranking_table(
    columns: Mapping[str, str],
    rows: Sequence[Sequence[str]],
    *,
    label: str,
    selected: Head,
    key: str,
    on_pick: Callable[[Head], None],
) -> None:
    """The table, of which about eight rows are seen.

    Args:
        columns: name → what it is; one of them is ``head``.
        rows: one text for each column.
        label: what the table is, for screen readers.
        on_pick: called with the head of the row that was opened, before the page reruns.
    """

    def picked() -> None:
        name = st.session_state[key].picked
        if name is not None:
            on_pick(Head.parse(str(name)))

    _component()(
        data={
            "headings": [list(column) for column in columns.items()],
            "rows": [list(row) for row in rows],
            "label": label,
            "selected": str(selected),
        },
        key=key,
        on_picked_change=picked,
    )


@cache
def _component() -> Any:
    html, css, js = ((FOLDER / f"ranking_table.{end}").read_text(encoding="utf-8") for end in ("html", "css", "js"))
    return component("workbench_ranking_table", html=html, css=css, js=js)
