"""Finished sweeps: read once, and one value and one text per head for the grids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streamlit as st
from jaxtyping import Float

import workbench as wb
from workbench.plotting import style

#: Finished sweeps that stay in memory.
MAX_SWEEPS = 8
#: Session state: model → the key of the sweep that was shown last; the page Heads colours by it.
NEWEST = "newest-sweeps"


@st.cache_resource(max_entries=MAX_SWEEPS, show_spinner=False)
def load_sweep(path: Path) -> wb.Sweep:
    """The sweep of a result file.

    Raises:
        BadInput: the file is damaged.
    """
    return wb.Sweep.load(path)


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
        _, index = style.largest_over_positions(values)
    else:
        index = np.full(values.shape[:-1], names.index(at))
    values, texts, p = (np.take_along_axis(array, index[..., None], axis=-1)[..., 0] for array in (values, texts, p))
    return values, _join(texts, np.array(names, dtype=object)[index]), p


def edits_of(sweep: wb.Sweep) -> str:
    """What was edited and how, and what was measured, for data."""
    return style.chart_text(sweep, sweep.quantity(None)).subtitle.replace(" · ", ", ").replace(" × ", " and ")


def intervals_by_head(
    sweep: wb.Sweep, quantity: str
) -> tuple[Float[np.ndarray, "layer head"], Float[np.ndarray, "layer head"]]:
    """Ends of the 95 % interval of each head's value in `by_head`."""
    low, high = style.interval(sweep, quantity)
    if "position" not in sweep.axes:
        return low, high
    _, index = style.largest_over_positions(getattr(sweep, quantity))
    low, high = (np.take_along_axis(end, index[..., None], axis=-1)[..., 0] for end in (low, high))
    return low, high


def _join(parts: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray:
    texts = np.empty(parts.shape, dtype=object)
    for index in np.ndindex(*parts.shape):
        texts[index] = ", ".join(parts[index]) + ("" if positions is None else f" at {positions[index]}")
    return texts
