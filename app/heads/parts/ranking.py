"""The heads in order of the grid's score; a click on a row opens its head."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from app import sidebar, url_widgets
from app.components.ranking_table import ranking_table
from app.downloadable import download_button
from app.heads.score import Score, without_value
from app.heads.score_grid import source_of
from app.heads.view import View
from app.messages import escape_markdown
from app.part import LEFT, Part
from workbench.core import Head
from workbench.head_scores.ranking import filter_forms, heads_named, order_of
from workbench.io.tables import printed

HELP = (
    "**Ranked heads**: all heads in order of the grid's score, with its 95 % interval and chance level. Click a row or "
    "press Enter on it, to open its head. The filter takes heads and layers: `1.3` or `L1H3`, `1`, `0-1`. Chance "
    "levels can be below 0: earlier positions attend to fewer keys, so that uniform attention gives each of these more."
)
#: Parameter of the URL.
_FILTER = "ranked"
_TEXTS: dict[tuple[Any, ...], tuple[dict[str, str], list[list[str]]]] = {}
INTERVAL = "The 95 % interval of the mean"


def render(view: View) -> None:
    """The filter, the table and its download."""
    score, head = view.score, view.selection.head
    if not np.isfinite(score.values).any():
        return  # the grid says why
    forms = filter_forms(*score.values.shape)
    options = {"placeholder": f"filter: {forms}", "help": f"Heads and layers, with commas between several: {forms}."}
    text = url_widgets.line("Ranked heads", _FILTER, "", **options)
    among = heads_named(text, *score.values.shape, name="Ranked heads")
    columns, rows = table_texts(score, among)
    if rows:
        label = f"Heads ranked by {score.title}: arrow keys move, Enter opens"
        ranking_table(columns, rows, label=label, selected=head, key="ranking", on_pick=sidebar.select_head)
    else:
        st.caption("None of these heads has a value.")
    name = f"ranking-{view.selection.model_name}-{view.score_name}.csv"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(escape_markdown(" ".join([place(score, head), *without_value(score)])))
        download_button("CSV", lambda: csv(view), name, "text/csv", key="ranking-csv")


def table_texts(score: Score, among: np.ndarray | None = None) -> tuple[dict[str, str], list[list[str]]]:
    """The columns with what they are, and the texts of the rows; the last ones stay in memory."""
    arrays = (score.values, score.low, score.high, score.chance, among)
    words = (score.title, score.units, score.chance_name, score.by_size, score.positions)
    key = (*words, *(None if x is None else np.asarray(x).tobytes() for x in arrays))
    if key not in _TEXTS:
        _TEXTS.clear()
        _TEXTS[key] = _table_texts(score, among)
    return _TEXTS[key]


def _table_texts(score: Score, among: np.ndarray | None) -> tuple[dict[str, str], list[list[str]]]:
    frame = score.ranking(among)
    columns = {"rank": f"Among all heads, by {'|value|' if score.by_size else 'value'}", "head": "layer.head"}
    texts: dict[str, Any] = {"rank": frame["rank"].astype(str), "head": frame["head"]}
    columns["value"], texts["value"] = f"{score.title}, in {score.units}", map(printed, frame["value"])
    if "low" in frame:
        ends = zip(frame["low"], frame["high"], strict=True)
        columns["95 % interval"], texts["interval"] = INTERVAL, (f"{printed(a)} to {printed(b)}" for a, b in ends)
    if "chance" in frame:
        columns["chance"], texts["chance"] = f"Chance level: {score.chance_name}", map(printed, frame["chance"])
    return columns, [list(row) for row in zip(*texts.values(), strict=True)]


def csv(view: View) -> bytes:
    """The whole ranking, each row with the score, its units, the model, the prompt or the task, and the version."""
    score = view.score
    return source_of(view.selection, view.score_name, score).csv(score.ranking().assign(**score.facts()))


def place(score: Score, head: Head) -> str:
    """Where the open head stands."""
    n = int(np.isfinite(score.values).sum())
    if not np.isfinite(score.values[head.layer, head.index]):
        return f"{n} heads."
    order = order_of(score.values, score.by_size)
    rank = int(np.flatnonzero(order == head.layer * score.values.shape[1] + head.index)[0]) + 1
    return f"Head {head} is number {rank} of {n}."


part = Part("ranking", 20, LEFT, render, help=HELP)
