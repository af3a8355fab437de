"""The newest sweep of the chosen model, as a score of its heads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

import workbench as wb
from app.heads.head_score import Score
from app.patching.sweeping import NEWEST
from app.work import sweeps
from workbench import drawing
from workbench.errors import UsageError
from workbench.results import Sweep
from workbench.vocabulary import Head

EFFECT = "patching_effect"
LABEL = "patching effect (newest sweep)"
#: The sweep in the link, behind it the model: its key, which is also the name of its file.
LINK = "swept-"
#: Finished sweeps that stay in memory.
KEPT = 4
_KEY = re.compile(r"[0-9a-f]{64}")
#: Axes of sweeps whose cells are heads.
AXES = (("layer", "head"), ("layer", "head", "position"))


def newest(name: str) -> Path | None:
    """The file of the newest sweep of a model in this session, or of that in the link."""
    known = st.session_state.get(NEWEST, {}).get(name)
    key = Path(known).stem if known else st.query_params.get(LINK + name, "")
    if not _KEY.fullmatch(key) or not sweeps.file(key).is_file():
        return None
    if st.query_params.get(LINK + name) != key:
        st.query_params[LINK + name] = key
    return sweeps.file(key)


def score(model: Any, path: Path) -> Score:
    """The effect of each head, with interval and p-value.

    Raises:
        UsageError: the sweep's cells are no heads of this model.
        BadInput: it was damaged.
    """
    sweep = _read(str(path))
    if sweep.axes not in AXES:
        raise UsageError(f"The newest sweep is by {' × '.join(sweep.axes)}: run one by head on the page Patching.")
    layers, heads = (list(map(int, sweep.labels[axis])) for axis in ("layer", "head"))
    if sweep.info.get("model") != model.provenance.get("name") or max(layers) >= model.n_layers:
        raise UsageError("The newest sweep is of another model: run one on the page Patching.")
    quantity = sweep.quantity(None)
    values, p, words = getattr(sweep, quantity), sweep.p_value, drawing.words(sweep, quantity)
    low, high = drawing.interval(sweep, quantity)
    where = None
    if len(sweep.axes) == 3:
        values, where = drawing.largest_over_positions(values)
        low, high, p = (np.take_along_axis(each, where[..., None], -1)[..., 0] for each in (low, high, p))
    shape = (model.n_layers, model.n_heads)
    shown, texts, sure = np.full(shape, np.nan), np.full(shape, "not in the sweep", dtype=object), set()
    for i, j in np.ndindex(*values.shape):
        layer, head = layers[i], heads[j]
        at = "" if where is None else f" at {sweep.labels['position'][where[i, j]]}"
        shown[layer, head] = values[i, j]
        interval = f"95 % [{low[i, j]:.3g}, {high[i, j]:.3g}], p = {p[i, j]:.2g}{at}"
        texts[layer, head] = f"{values[i, j]:.3g}, {interval}" if np.isfinite(values[i, j]) else f"no value{at}"
        if p[i, j] <= drawing.ALPHA:
            sure.add(Head(layer, head))
    largest = "" if where is None else " The largest over positions."
    note = f"{words.title}. {words.subtitle}.{largest} 0: no effect; framed: p ≤ {drawing.ALPHA}. {words.note}"
    return Score(shown, "Patching effect", words.scale, note, (), True, texts, frozenset(sure))


@st.cache_resource(max_entries=KEPT, show_spinner=False)
def _read(path: str) -> Sweep:
    return wb.Sweep.load(path)
