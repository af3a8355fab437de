"""The chosen head on the page Circuits: chosen by a click in the graph or in the table, opened on the page Heads."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import models, sidebar, url_widgets
from app.circuits.graph import CircuitGraph
from app.messages import escape_markdown
from app.page import views
from workbench.core import Head
from workbench.errors import UsageError

_GRAPH, _TABLE, _ROWS = "circuit-graph-picked", "circuit-table", "circuit-table-heads"


def sidebar_head() -> Head | None:
    """The head of the side bar; None where that is none."""
    try:
        return Head.parse(str(st.session_state.get(sidebar.HEAD, "")))
    except UsageError:
        return None


def heads_of_rows(frame: pd.DataFrame) -> list[Head]:
    """The head of each row."""
    return [Head(int(i), int(j)) for i, j in zip(frame["layer"], frame["index"], strict=True)]


def show_graph(circuit_graph: CircuitGraph) -> None:
    """The graph; a click on a marker or a line chooses its head."""
    st.plotly_chart(
        circuit_graph.plotly(),
        key=_GRAPH,
        on_select=_picked_in_graph,
        selection_mode="points",
        config={"displaylogo": False},
        alt=f"{circuit_graph.title}: {', '.join(node.label for node in circuit_graph.nodes if node.kind == 'head')}",
    )


def show_table(frame: pd.DataFrame) -> None:
    """The heads, to be sorted; a click on a row chooses its head."""
    st.session_state[_ROWS] = heads_of_rows(frame)
    visible_columns = frame.drop(columns="index").dropna(axis="columns", how="all")
    numbers = {
        name: st.column_config.NumberColumn(format="%.2g", width=76) for name in visible_columns.select_dtypes("number")
    }
    st.dataframe(
        visible_columns,
        key=_TABLE,
        hide_index=True,
        column_config={**numbers, "head": st.column_config.TextColumn(width=50)},
        on_select=_picked_in_table,
        selection_mode="single-row",
        height="content" if len(visible_columns) <= 25 else 600,
    )


def show_selection(frame: pd.DataFrame, model: str) -> None:
    """Which head is chosen, what it is in this circuit, and the way to the page Heads."""
    head = sidebar_head()
    rows = [row for row, mine in zip(frame.to_dict("records"), heads_of_rows(frame), strict=True) if mine == head]
    if head is None or not rows:
        status = "No head is chosen" if head is None else f"Head {head} is chosen; it is not in this circuit"
        st.markdown(f"{escape_markdown(status)}: click one in the graph or in the table.")
        return
    st.markdown(f"**Head {head}**: {escape_markdown(', '.join(str(row['role']) for row in rows))}")
    available = model in models.available()
    reason = None if available else f"{model or 'The model'} is not on this machine."
    if st.button(f"Open {head} on Heads", key="circuit-open", disabled=not available, help=reason):
        _open(model)


def _open(model: str) -> None:
    """Go to the page Heads, with the circuit's model, which may be another than the side bar's."""
    url_widgets.set_for_next_page(sidebar.MODEL, model)
    st.switch_page(views()["heads"])


def _picked_in_graph() -> None:
    for point in st.session_state[_GRAPH].selection.points:
        name = str(point["customdata"][0]) if point.get("customdata") else ""
        if name:
            sidebar.select_head(Head.parse(name))


def _picked_in_table() -> None:
    known = st.session_state[_ROWS]
    for row in st.session_state[_TABLE].selection.rows:
        if row < len(known):
            sidebar.select_head(known[row])
