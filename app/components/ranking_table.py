"""A table of heads: the open one is marked; a click on a row, or Enter, opens its head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from app.components.component_files import load_component
from workbench.core import Head


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

    load_component("ranking_table")(
        data={
            "headings": [list(column) for column in columns.items()],
            "rows": [list(row) for row in rows],
            "label": label,
            "selected": str(selected),
        },
        key=key,
        on_picked_change=picked,
    )
