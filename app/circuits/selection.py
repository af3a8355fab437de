"""The chosen head on the page Circuits: chosen by a click in the graph or in the table, opened on the page Heads."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import models, sidebar, url_widgets
from app.circuits.graph import CircuitGraph
from app.markdown import plain
from app.page import views
from workbench.core import Head
from workbench.errors import UsageError

_GRAPH, _TABLE, _ROWS = "circuit-graph-picked", "circuit-table", "circuit-table-heads"


def chosen_one() -> Head | None:
    """The head of the side bar; None where that is none."""
    try:
        return Head.parse(str(st.session_state.get(sidebar.HEAD, "")))
    except UsageError:
        return None


def heads(frame: pd.DataFrame) -> list[Head]:
    """The head of each row."""
    return [Head(int(i), int(j)) for i, j in zip(frame["layer"], frame["index"], strict=True)]


def graph(shown: CircuitGraph) -> None:
    """The graph; a click on a marker or a line chooses its head."""
    st.plotly_chart(
        shown.plotly(),
        key=_GRAPH,
        on_select=_picked_in_graph,
        selection_mode="points",
        config={"displaylogo": False},
        alt=f"{shown.title}: {', '.join(node.label for node in shown.nodes if node.kind == 'head')}",
    )


def table(frame: pd.DataFrame) -> None:
    """The heads, to be sorted; a click on a row chooses its head."""
    st.session_state[_ROWS] = heads(frame)
    shown = frame.drop(columns="index").dropna(axis="columns", how="all")
    numbers = {name: st.column_config.NumberColumn(format="%.2g", width=76) for name in shown.select_dtypes("number")}
    st.dataframe(
        shown,
        key=_TABLE,
        hide_index=True,
        column_config={**numbers, "head": st.column_config.TextColumn(width=50)},
        on_select=_picked_in_table,
        selection_mode="single-row",
        height="content" if len(shown) <= 25 else 600,
    )


def said(frame: pd.DataFrame, model: str) -> None:
    """Which head is chosen, what it is in this circuit, and the way to the page Heads."""
    head = chosen_one()
    rows = [row for row, mine in zip(frame.to_dict("records"), heads(frame), strict=True) if mine == head]
    if head is None or not rows:
        given = "No head is chosen" if head is None else f"Head {head} is chosen; it is not in this circuit"
        st.markdown(f"{plain(given)}: click one in the graph or in the table.")
        return
    st.markdown(f"**Head {head}**: {plain(', '.join(str(row['role']) for row in rows))}")
    here = model in models.available()
    why = None if here else f"{model or 'The model'} is not on this machine."
    if st.button(f"Open {head} on Heads", key="circuit-open", disabled=not here, help=why):
        _open(model)


def _open(model: str) -> None:
    """Go to the page Heads, with the circuit's model, which may be another than the side bar's."""
    url_widgets.lay_by(sidebar.MODEL, model)
    st.switch_page(views()["heads"])


def _picked_in_graph() -> None:
    for point in st.session_state[_GRAPH].selection.points:
        name = str(point["customdata"][0]) if point.get("customdata") else ""
        if name:
            sidebar.choose(Head.parse(name))


def _picked_in_table() -> None:
    known = st.session_state[_ROWS]
    for row in st.session_state[_TABLE].selection.rows:
        if row < len(known):
            sidebar.choose(known[row])
