"""The selected head on the page Circuits: by a click in the graph or in the table; opened on the page Heads, or
on that of its model's modality."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import models, open_patching, sidebar, url_widgets
from app.circuits.figure import CircuitFigure
from app.circuits.graph import CircuitGraph
from app.downloadable import PLOTLY_CONFIG
from app.messages import escape_markdown
from app.number_table import in_print
from app.page import Page, pages, views
from app.swapped_names import split_name
from workbench.core import Head
from workbench.errors import UsageError
from workbench.models import catalog

#: The page of heads on a prompt.
HEADS = "heads"
_GRAPH, _TABLE, _ROWS = "circuit-graph-picked", "circuit-table", "circuit-table-heads"
#: A table of more rows scrolls, and is so many pixels high.
MAX_ROWS, TABLE_HEIGHT = 25, 600


def sidebar_head() -> Head | None:
    """The head of the side bar; None where it is not valid."""
    try:
        return Head.parse(url_widgets.current(sidebar.HEAD, ""))
    except UsageError:
        return None


def heads_of_rows(frame: pd.DataFrame) -> list[Head]:
    """The head of each row."""
    return [Head(int(i), int(j)) for i, j in zip(frame["layer"], frame["index"], strict=True)]


def show_graph(graph: CircuitGraph) -> None:
    """The graph; a click on a marker or a line selects its head."""
    heads = ", ".join(node.label for node in graph.nodes if node.kind == "head")
    st.plotly_chart(
        CircuitFigure(graph).plotly(),
        key=_GRAPH,
        on_select=_select_in_graph,
        selection_mode="points",
        config=PLOTLY_CONFIG,
        alt=f"{graph.title}: {heads}",
    )


def show_table(frame: pd.DataFrame) -> None:
    """The heads; a click on a row selects its head."""
    st.session_state[_ROWS] = heads_of_rows(frame)
    columns = frame.drop(columns="index").dropna(axis="columns", how="all")
    numbers = {name: st.column_config.NumberColumn(width=70) for name in columns.select_dtypes("number")}
    st.dataframe(
        in_print(columns, ".2g"),
        key=_TABLE,
        hide_index=True,
        column_config={**numbers, "head": st.column_config.TextColumn(width=50)},
        on_select=_select_in_table,
        selection_mode="single-row",
        height="content" if len(columns) <= MAX_ROWS else TABLE_HEIGHT,
    )


def show_selection(frame: pd.DataFrame, model: str) -> None:
    """The selected head, its roles in this circuit, and a button that opens it on the page Heads, or on that of
    its model's modality."""
    head = sidebar_head()
    records = zip(frame.to_dict("records"), heads_of_rows(frame), strict=True)
    roles = [str(row["role"]) for row, row_head in records if row_head == head]
    if head is None or not roles:
        status = "No head is selected." if head is None else f"Head {head} is not in this circuit."
        st.markdown(f"{escape_markdown(status)} Click one in the graph or in the table.")
        return
    st.markdown(f"**Head {head}**: {escape_markdown(', '.join(roles))}")
    own = split_name(model)[0]
    available = own in models.available()
    reason = None if available else f"{model or 'The model'} is not on this machine."
    page = _page_of(catalog.modality_of(own) if available else "language")
    with st.container(horizontal=True):
        opens = st.button(f"Open {head} on {page.title}", key="circuit-open", disabled=not available, help=reason)
        # On the other pages the head is edited where it is shown.
        ablates = page.name == HEADS and open_patching.ablate_button(head, "circuit-ablate", disabled=not available)
    if opens or ablates:
        _take_along(model)
        if ablates:
            open_patching.ablate(head)
        st.switch_page(views()[page.name])


def _page_of(modality: str) -> Page:
    """The page that shows a head of models of a modality: the first of them that is about such models."""
    return next((page for page in pages() if modality in page.modalities), pages()[0])


def _take_along(model: str) -> None:
    """Select the circuit's model, which may differ from the side bar's, on the page that is opened."""
    own, operators = split_name(model)
    url_widgets.set_for_next_page(sidebar.MODEL, own)
    url_widgets.set_for_next_page(sidebar.OPERATORS, operators)


def _select_in_graph() -> None:
    for point in st.session_state[_GRAPH].selection.points:
        name = str(point["customdata"][0]) if point.get("customdata") else ""
        if name:
            sidebar.select_head(Head.parse(name))


def _select_in_table() -> None:
    heads = st.session_state[_ROWS]
    for row in st.session_state[_TABLE].selection.rows:
        if row < len(heads):
            sidebar.select_head(heads[row])
