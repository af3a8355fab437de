"""A finished sweep in the page: the grid whose cells are heads, intervals and p-values, downloads, the strongest."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

import workbench as wb
from app import options
from app.components.head_grid import head_grid
from app.shown import downloads
from app.work.swept import by_head
from workbench.core import Head
from workbench.plotting import style
from workbench.results.sweep import Sweep

LARGEST = "largest over positions"


@dataclass(frozen=True, eq=False)
class SweepShown:
    """What is downloaded of a sweep: the object that is drawn."""

    sweep: Sweep

    def still(self, ending: str) -> bytes:
        """As ``png`` or ``svg``."""
        stream = io.BytesIO()
        self.sweep.picture().savefig(stream, format=ending, dpi=200)
        return stream.getvalue()

    def csv(self) -> bytes:
        """A row a cell, with intervals and p-values."""
        return self.sweep.table().to_csv(index=False).encode()

    def json(self) -> bytes:
        """Everything but the value of each example."""
        return json.dumps(self.sweep.json(), ensure_ascii=False).encode()


def show(
    sweep: wb.Sweep, selected: Head, marked: frozenset[Head], on_pick: Callable[[Head], None], share: int = 1
) -> None:
    """Draw it.

    Args:
        share: how many heads read one key/value head; of those the first is picked by a click on it.
    """
    quantity = sweep.quantity(None)
    words = style.chart_text(sweep, quantity)
    if {"head", "kv_head"} & set(sweep.axes):
        _grid(sweep, quantity, words, selected, marked, on_pick, share)
    else:
        st.plotly_chart(sweep.figure(), key="sweep-figure", config={"displaylogo": False})
    st.caption(words.note)
    if sweep.effect_note:
        st.caption(sweep.effect_note)
    downloads(SweepShown(sweep), "sweep", "sweep")


def strongest(sweep: wb.Sweep, k: int = 8) -> pd.DataFrame:
    """The cells with the largest mean change, with intervals and p-values."""
    quantity = sweep.quantity(None)
    order = np.argsort(np.nan_to_num(-sweep.ranking(), nan=np.inf), axis=None, kind="stable")[:k]
    low, high = style.interval(sweep, quantity)
    values, p = getattr(sweep, quantity), sweep.p_value
    cells = [tuple(map(int, np.unravel_index(flat, values.shape))) for flat in order]
    rows = [(sweep.name(c), values[c], low[c], high[c], p[c]) for c in cells if np.isfinite(values[c])]
    return pd.DataFrame(rows, columns=["cell", quantity.replace("_", " "), "low", "high", "p"])


def _grid(
    sweep: wb.Sweep,
    quantity: str,
    words: style.ChartText,
    selected: Head,
    marked: frozenset[Head],
    on_pick: Callable[[Head], None],
    share: int,
) -> None:
    at = None
    if "position" in sweep.axes:
        place = options.select("At", [LARGEST, *sweep.labels["position"]], "at")
        at = None if place == LARGEST else place
    values, texts, _ = by_head(sweep, quantity, at)
    shared = "kv_head" in sweep.axes
    if shared and share > 1:
        texts = np.array([[_read_by(i, j, share, text) for j, text in enumerate(row)] for i, row in enumerate(texts)])
        st.caption(f"Rows are key/value heads; {share} heads read each. A click chooses the first of them.")

    def picked(head: Head) -> None:
        on_pick(Head(head.layer, head.index * share))

    head_grid(
        values,
        title=words.subtitle[:1].upper() + words.subtitle[1:],
        note=words.title,
        units=words.scale,
        texts=texts,
        selected=Head(selected.layer, selected.index // share) if shared else selected,
        marked=frozenset() if shared else marked,
        on_pick=picked if shared else on_pick,
        key="sweep-grid",
        shared=shared,
    )


def _read_by(layer: int, kv: int, share: int, text: str) -> str:
    return f"{text}; read by heads {Head(layer, kv * share)} to {Head(layer, (kv + 1) * share - 1)}"
