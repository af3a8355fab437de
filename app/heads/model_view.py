"""The patterns of all heads on the prompt: computed once, in order of layer or of the selected score."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import streamlit as st

import workbench as wb
from app import models, sidebar, url_widgets
from app.components.model_view import PatternBuffer, model_view, pattern_buffer
from app.downloadable import DPI, download_buttons
from app.heads import detail
from app.heads.score import Score
from app.heads.view import View
from app.messages import escape_markdown
from workbench.core import Head
from workbench.io.files import jsonable
from workbench.io.tables import ascii_minus
from workbench.plotting import matplotlib_charts
from workbench.plotting.colour_scale import COLOURS
from workbench.plotting.model_view import value_text
from workbench.plotting.source import Source

#: Rows and columns of a map at most.
SIZE = 32
#: Prompts whose maps stay in memory.
MAX_VIEWS = 8
LAYER, SCORE = ORDERS = ("by layer", "by the selected score")
COUNTS = ("10", "30", "all")
#: The URL parameters of the toggle, the order and the number of heads.
PARAM, ORDER, COUNT = "all-patterns", "patterns-order", "patterns-count"
#: Of the widget that mirrors the page's colours.
MIRROR = "patterns-colours"


def show_model_view(view: View) -> None:
    """The maps with their options and downloads, once they are asked for."""
    help_text = "One small map for each head. Long prompts are pooled by blocks of positions."
    if not url_widgets.toggle("Show the patterns of all heads", PARAM, help=help_text):
        url_widgets.hidden_select(ORDERS, ORDER)
        url_widgets.hidden_select(COUNTS, COUNT)
        return
    selection = view.selection
    buffer = _buffer(selection.model_name, tuple(selection.record.ids.tolist()))
    by_layer, count, colours = _options()
    heads = list(buffer.view.heads) if by_layer else ranked(buffer.view, view.score)[:count]
    values = [float(view.score.values[head.layer, head.index]) for head in heads]
    for line in buffer.view.notes:
        st.caption(escape_markdown(line))
    if not heads:
        st.caption("No head has a value of this score yet.")
        return
    title = "Patterns of all heads" if by_layer else f"Patterns by {_in_a_sentence(view.score.title)}"
    order = "" if by_layer else f" {_order(view.score)}, the value below each."
    model_view(
        buffer,
        heads,
        [value_text(value) for value in values],
        [_text(view.score, head) for head in heads],
        by_layer=by_layer,
        colours=colours,
        score=_in_a_sentence(view.score.title),
        title=title,
        note=f"{_positions(buffer.view)}{order}",
        selected=selection.head,
        key="model-view",
        on_pick=sidebar.select_head,
    )
    pairs = heads if by_layer else list(zip(heads, values, strict=True))
    source, score = replace(selection.source, head=""), "" if by_layer else view.score.title
    figure = _Figure(buffer.view, pairs, score, colours, source)
    download_buttons(figure, "model-view", "patterns" if by_layer else f"patterns-by-{view.score_name}")


def ranked(view: wb.ModelView, score: Score) -> list[Head]:
    """The heads that have a pattern and a value, in order of the score."""
    in_order = [Head.parse(name) for name in score.ranking()["head"]]
    return [head for head in in_order if head in view.heads]


@models.cleared_on_release
@st.cache_resource(max_entries=MAX_VIEWS, show_spinner="Computing the patterns of all heads …")
def _buffer(model_name: str, ids: tuple[int, ...]) -> PatternBuffer:
    return pattern_buffer(wb.model_view(models.load(model_name), ids, size=SIZE))


def _options() -> tuple[bool, int | None, str]:
    """Whether heads are in order of layer, how many of a ranking are shown, and how weights are coloured."""
    order_column, count_column, colour_column = st.columns([3, 2, 3], vertical_alignment="bottom")
    with order_column:
        by_layer = url_widgets.segments("Order", ORDERS, ORDER) == LAYER
    with count_column:
        if by_layer:
            url_widgets.hidden_select(COUNTS, COUNT)
        count = None if by_layer else url_widgets.segments("Heads", COUNTS, COUNT)
    with colour_column:
        colours = _colours_widget()
    return by_layer, None if count in (None, "all") else int(count), colours


def _colours_widget() -> str:
    """The page's colours (`detail.colours_widget`), which can be selected here, too."""

    def selected() -> None:
        url_widgets.set_value(detail.COLOUR, st.session_state[MIRROR])

    st.session_state[MIRROR] = detail.selected_colours()
    help_text = "Those of the open head’s pattern: the page has one scale."
    st.segmented_control("Colours", COLOURS, key=MIRROR, on_change=selected, required=True, help=help_text)
    return detail.selected_colours()


def _positions(view: wb.ModelView) -> str:
    """What a map is."""
    what = "In each map destinations downwards, sources across"
    if view.block == 1:
        return f"{what}."
    block = f"{view.block} × {view.block} positions"
    return f"{what}; {len(view.tokens):,} positions, pooled: each cell is the largest weight of {block}."


def _text(score: Score, head: Head) -> str:
    """The head's value with its units."""
    if score.texts is not None:
        return str(score.texts[head.layer, head.index])
    value = score.values[head.layer, head.index]
    return f"{value_text(value)} {score.units}" if np.isfinite(value) else value_text(value)


def _order(score: Score) -> str:
    return "The largest magnitude first" if score.by_size else "The largest value first"


def _in_a_sentence(title: str) -> str:
    """A title within a sentence; abbreviations stay as they are."""
    return title if title[:2].isupper() else title[:1].lower() + title[1:]


@dataclass(frozen=True, eq=False)
class _Figure:
    """What is drawn, with its exact weights, for downloads."""

    every: wb.ModelView
    heads: list[Any]
    score: str
    colours: str
    source: Source

    @property
    def view(self) -> wb.ModelView:
        return self.every.of(self.heads, self.score)

    def image(self, ending: str) -> bytes:
        return matplotlib_charts.image(self.view.picture(self.colours), ending, DPI)

    def csv(self) -> bytes:
        table = self.view.table()
        shares = {"quantity": "attention pattern", "units": "attention weight", "block": self.view.block}
        return self.source.csv(table.rename(columns=ascii_minus).assign(**shares))

    def json(self) -> bytes:
        view = self.view
        fields = {
            **self.source.fields(),
            "block": view.block,
            "labels": view.data_labels,
            "notes": view.notes,
            "colours": self.colours,
        }
        heads = [str(head) for head in view.heads]
        data = {**fields, "heads": heads, "score": ascii_minus(view.score), "scores": view.values, "values": view.maps}
        return json.dumps(jsonable(data), ensure_ascii=False).encode()
