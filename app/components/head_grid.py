"""The layer × head grid, and grids of other axes: one canvas for all cells, with click, hover and arrow keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import streamlit as st
from jaxtyping import Float

from app.components.component_files import load_component
from workbench.core import Head
from workbench.plotting import style

#: Colours of the scale that are sent to the page, which interpolates between them.
STOPS = 17


@dataclass(frozen=True)
class Axis:
    """What is along an axis: its title, and the label of each place."""

    title: str
    labels: tuple[str, ...]


def head_grid(
    values: Float[np.ndarray, "layer head"],
    *,
    title: str,
    units: str,
    selected: Head,
    key: str,
    on_pick: Callable[[Head], None],
    diverging: bool = True,
    note: str = "",
    marked: frozenset[Head] = frozenset(),
    texts: np.ndarray | None = None,
    levels: Sequence[float] = (),
    limit: float | None = None,
    shared: bool = False,
) -> None:
    """The grid of one value per head.

    Args:
        values: NaN is grey, as in every figure.
        on_pick: called with the head that was picked, by a click or the arrow keys, before the page reruns.
        diverging: signed values, on a scale centred on zero; otherwise it starts at 0.
        note: a line below the title.
        marked: heads with a frame, such as those of a circuit.
        texts: ``[layer, head]``, shown below the grid instead of the value (intervals, p-values).
        levels: chance levels, marked on the colour bar; the note explains them.
        shared: the rows are key/value heads, written ``9.kv1``.
        limit: the end of the scale, where several grids share one; by default the largest magnitude.
    """
    data = _shared(values, diverging, limit, title, units, note, texts)
    data |= {"shared": shared, "levels": [float(level) for level in levels]}
    data["selected"] = [selected.layer, selected.index]
    data["marked"] = [[head.layer, head.index] for head in sorted(marked)]
    _show(data, key, lambda layer, head: on_pick(Head(layer, head)))


def labelled_grid(
    values: Float[np.ndarray, "column row"],
    columns: Axis,
    rows: Axis,
    *,
    title: str,
    units: str,
    selected: tuple[int, int],
    key: str,
    on_pick: Callable[[int, int], None],
    diverging: bool = True,
    note: str = "",
    marked_rows: frozenset[int] = frozenset(),
    marked_columns: frozenset[int] | None = None,
    texts: np.ndarray | None = None,
    limit: float | None = None,
) -> None:
    """A grid as `head_grid` draws it, of two other axes.

    Args:
        selected: the column and row of the open cell.
        on_pick: called with the column and row that were picked.
        marked_rows: rows whose cells have a frame.
        marked_columns: in which columns they have it; by default in all.
    """
    data = _shared(values, diverging, limit, title, units, note, texts)
    data |= {"shared": False, "levels": [], "selected": list(selected)}
    framed = range(len(values)) if marked_columns is None else sorted(marked_columns)
    data["marked"] = [[i, j] for i in framed for j in sorted(marked_rows)]
    data["axes"] = [{"title": axis.title, "labels": list(axis.labels)} for axis in (columns, rows)]
    _show(data, key, on_pick)


def _shared(
    values: Float[np.ndarray, "column row"],
    diverging: bool,
    limit: float | None,
    title: str,
    units: str,
    note: str,
    texts: np.ndarray | None,
) -> dict[str, Any]:
    top = style.limit(values) if limit is None else limit
    cells = np.where(np.isfinite(values), values, np.nan).T
    return {
        "values": [[None if np.isnan(v) else round(float(v), 6) for v in row] for row in cells],
        "low": -top if diverging else 0.0,
        "high": top,
        "colours": scale_colours(diverging),
        "blank": style.BLANK,
        "title": title,
        "units": units,
        "note": note,
        "texts": None if texts is None else texts.T.tolist(),
    }


def _show(data: dict[str, Any], key: str, on_pick: Callable[[int, int], None]) -> None:
    def picked() -> None:
        place = st.session_state[key].picked
        if place is not None:
            on_pick(int(place[0]), int(place[1]))

    load_component("head_grid")(data=data, key=key, on_picked_change=picked)


@cache
def scale_colours(diverging: bool) -> list[list[int]]:
    """`STOPS` colours of the scale, as red, green and blue."""
    from matplotlib import colormaps

    scale = colormaps[style.DIVERGING if diverging else style.SEQUENTIAL]
    return [[round(255 * c) for c in scale(i / (STOPS - 1))[:3]] for i in range(STOPS)]
