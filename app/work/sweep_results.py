"""Finished sweeps: read once, and one value and one text a head for the grids."""

from __future__ import annotations

import numpy as np
import streamlit as st
from jaxtyping import Float

import workbench as wb
from app.work import result_files
from workbench.plotting import style

#: What they are called among what jobs leave.
SWEEPS = "sweeps"
#: Finished sweeps that stay in memory.
KEPT = 8
#: Model → the key of its newest finished sweep in this session; the page Heads colours by it.
NEWEST = "sweep-of"


@st.cache_resource(max_entries=KEPT, show_spinner=False)
def read(key: str) -> wb.Sweep:
    """The sweep of that key.

    Raises:
        BadInput: its file was damaged.
    """
    return wb.Sweep.load(result_files.file(SWEEPS, key))


def by_head(
    sweep: wb.Sweep, quantity: str, at: str | None = None
) -> tuple[Float[np.ndarray, "layer head"], np.ndarray, Float[np.ndarray, "layer head"]]:
    """Value, text and p-value of each head (or key/value head) of a sweep by head, or by head and position.

    Args:
        at: which position; by default for each head the one with its largest value.
    """
    values, said, p = getattr(sweep, quantity), style.cell_words(sweep, quantity), sweep.p_value
    if "position" not in sweep.axes:
        return values, _joined(said), p
    names = sweep.labels["position"]
    if at is None:
        _, where = style.largest_over_positions(values)
    else:
        where = np.full(values.shape[:-1], names.index(at))
    values, said, p = (np.take_along_axis(each, where[..., None], axis=-1)[..., 0] for each in (values, said, p))
    return values, _joined(said, np.array(names, dtype=object)[where]), p


def _joined(said: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
    texts = np.empty(said.shape, dtype=object)
    for index in np.ndindex(*said.shape):
        texts[index] = ", ".join(said[index]) + ("" if places is None else f" at {places[index]}")
    return texts
