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
MAX_SWEEPS = 8
#: Model → the key of its newest finished sweep in this session; the page Heads colours by it.
NEWEST = "sweep-of"


@st.cache_resource(max_entries=MAX_SWEEPS, show_spinner=False)
def load_sweep(key: str) -> wb.Sweep:
    """The sweep of that key.

    Raises:
        BadInput: its file was damaged.
    """
    return wb.Sweep.load(result_files.result_path(SWEEPS, key))


def by_head(
    sweep: wb.Sweep, quantity: str, at: str | None = None
) -> tuple[Float[np.ndarray, "layer head"], np.ndarray, Float[np.ndarray, "layer head"]]:
    """Value, text and p-value of each head (or key/value head) of a sweep by head, or by head and position.

    Args:
        at: which position; by default for each head the one with its largest value.
    """
    values, texts, p = getattr(sweep, quantity), style.cell_words(sweep, quantity), sweep.p_value
    if "position" not in sweep.axes:
        return values, _join(texts), p
    names = sweep.labels["position"]
    if at is None:
        _, where = style.largest_over_positions(values)
    else:
        where = np.full(values.shape[:-1], names.index(at))
    values, texts, p = (np.take_along_axis(each, where[..., None], axis=-1)[..., 0] for each in (values, texts, p))
    return values, _join(texts, np.array(names, dtype=object)[where]), p


def _join(parts: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray:
    texts = np.empty(parts.shape, dtype=object)
    for index in np.ndindex(*parts.shape):
        texts[index] = ", ".join(parts[index]) + ("" if positions is None else f" at {positions[index]}")
    return texts
