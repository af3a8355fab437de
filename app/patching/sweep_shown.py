"""A finished sweep in the page: the grid whose cells are heads, intervals and p-values, downloads, the strongest."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st
from jaxtyping import Float

import workbench as wb
from app import options
from app.components.head_grid import head_grid
from app.shown import downloads
from workbench import drawing
from workbench.results import Sweep
from workbench.vocabulary import Head

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
    words = drawing.words(sweep, quantity)
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
    low, high = drawing.interval(sweep, quantity)
    values, p = getattr(sweep, quantity), sweep.p_value
    cells = [tuple(map(int, np.unravel_index(flat, values.shape))) for flat in order]
    rows = [(sweep.name(c), values[c], low[c], high[c], p[c]) for c in cells if np.isfinite(values[c])]
    return pd.DataFrame(rows, columns=["cell", quantity.replace("_", " "), "low", "high", "p"])


def _grid(
    sweep: wb.Sweep,
    quantity: str,
    words: drawing.Words,
    selected: Head,
    marked: frozenset[Head],
    on_pick: Callable[[Head], None],
    share: int,
) -> None:
    values, texts = by_head(sweep, quantity)
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


def by_head(sweep: wb.Sweep, quantity: str) -> tuple[Float[np.ndarray, "layer head"], np.ndarray]:
    """One value and one text a head; with positions, those of the chosen one."""
    values, texts = getattr(sweep, quantity), _texts(sweep, quantity)
    if values.ndim == 2:
        return values, texts
    names = [LARGEST, *sweep.labels["position"]]
    place = names.index(options.select("At", names, "at")) - 1
    if place >= 0:
        return values[..., place], texts[..., place]
    best, where = drawing.largest_over_positions(values)
    return best, np.take_along_axis(texts, where[..., None], axis=-1)[..., 0]


def _texts(sweep: wb.Sweep, quantity: str) -> np.ndarray:
    values, (low, high), p = getattr(sweep, quantity), drawing.interval(sweep, quantity), sweep.p_value
    texts = np.empty(values.shape, dtype=object)
    for index, at in sweep.cells():
        where = f" at {at['position']}" if "position" in at else ""
        texts[index] = (
            f"{quantity.replace('_', ' ')} {values[index]:.3g} [{low[index]:.3g}, {high[index]:.3g}], "
            f"p = {p[index]:.2g}{where}"
            if np.isfinite(values[index])
            else f"no value{where}"
        )
    return texts
