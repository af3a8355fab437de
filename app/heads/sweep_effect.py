"""The newest sweep of the chosen model, as a score of its heads."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import numpy as np
import streamlit as st

from app import url_state
from app.heads.score import Score
from app.work import result_files, sweep_results
from app.work.sweep_results import SWEEPS
from workbench.core import Head
from workbench.errors import BadInput, UsageError
from workbench.plotting import style

EFFECT = "patching_effect"
LABEL = "patching effect (newest sweep)"
#: The sweep in the link, behind it the model: its key, which is also the name of its file.
PARAM = "swept-"
_KEY = re.compile(r"[0-9a-f]{64}")
#: Axes of sweeps whose cells are heads.
AXES = (("layer", "head"), ("layer", "head", "position"))


def newest_sweep_key(name: str) -> str | None:
    """The key of a model's sweep: the one that was last shown in this session, the one in the link, or the newest by
    head on this machine."""
    shown, linked = st.session_state.get(sweep_results.NEWEST, {}).get(name), url_state.get_param(PARAM + name)
    given = linked if url_state.navigated_back() else shown or linked
    key = (
        given
        if given and _KEY.fullmatch(given) and result_files.result_path(SWEEPS, given).is_file()
        else _on_this_machine(name)
    )
    if key is not None:
        url_state.set_param(PARAM + name, key)
    return key


def _on_this_machine(name: str) -> str | None:
    for path in result_files.result_paths(SWEEPS):
        with suppress(BadInput):
            sweep = sweep_results.load_sweep(path.stem)
            if sweep.info.get("model") == name and sweep.axes in AXES:
                return path.stem
    return None


def score(model: Any, key: str) -> Score:
    """The effect of each head, with interval and p-value.

    Raises:
        UsageError: the sweep's cells are no heads of this model.
        BadInput: it was damaged.
    """
    sweep = sweep_results.load_sweep(key)
    if sweep.axes not in AXES:
        raise UsageError(f"The newest sweep is by {' × '.join(sweep.axes)}: run one by head on the page Patching.")
    layers, heads = (list(map(int, sweep.labels[axis])) for axis in ("layer", "head"))
    if sweep.info.get("model") != model.provenance.get("name") or max(layers) >= model.n_layers:
        raise UsageError("The newest sweep is of another model: run one on the page Patching.")
    quantity = sweep.quantity(None)
    words = style.words(sweep, quantity)
    values, texts_by_head, p = sweep_results.by_head(sweep, quantity)
    shape = (model.n_layers, model.n_heads)
    all_values, texts = np.full(shape, np.nan), np.full(shape, "not in the sweep", dtype=object)
    all_values[np.ix_(layers, heads)], texts[np.ix_(layers, heads)] = values, texts_by_head
    sure = frozenset(Head(layers[i], heads[j]) for i, j in zip(*np.nonzero(p <= style.ALPHA), strict=True))
    largest = " The largest over positions." if "position" in sweep.axes else ""
    note = f"{words.title}. {words.subtitle}.{largest} 0: no effect; framed: p ≤ {style.ALPHA}. {words.note}"
    return Score(all_values, "Patching effect", words.scale, note, (), True, texts, sure)
