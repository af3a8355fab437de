"""The newest sweep of the chosen model, as a score of its heads."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import numpy as np
import streamlit as st

from app import link
from app.heads.head_score import Score
from app.work import kept, swept
from app.work.swept import SWEEPS
from workbench.core import Head
from workbench.errors import BadInput, UsageError
from workbench.plotting import style

EFFECT = "patching_effect"
LABEL = "patching effect (newest sweep)"
#: The sweep in the link, behind it the model: its key, which is also the name of its file.
LINK = "swept-"
_KEY = re.compile(r"[0-9a-f]{64}")
#: Axes of sweeps whose cells are heads.
AXES = (("layer", "head"), ("layer", "head", "position"))


def newest(name: str) -> str | None:
    """The key of a model's sweep: the one that was last shown in this session, the one in the link, or the newest by
    head on this machine."""
    shown, linked = st.session_state.get(swept.NEWEST, {}).get(name), link.given(LINK + name)
    given = linked if link.went_back() else shown or linked
    key = given if given and _KEY.fullmatch(given) and kept.file(SWEEPS, given).is_file() else _on_this_machine(name)
    if key is not None:
        link.say(LINK + name, key)
    return key


def _on_this_machine(name: str) -> str | None:
    for path in kept.files(SWEEPS):
        with suppress(BadInput):
            sweep = swept.read(path.stem)
            if sweep.info.get("model") == name and sweep.axes in AXES:
                return path.stem
    return None


def score(model: Any, key: str) -> Score:
    """The effect of each head, with interval and p-value.

    Raises:
        UsageError: the sweep's cells are no heads of this model.
        BadInput: it was damaged.
    """
    sweep = swept.read(key)
    if sweep.axes not in AXES:
        raise UsageError(f"The newest sweep is by {' × '.join(sweep.axes)}: run one by head on the page Patching.")
    layers, heads = (list(map(int, sweep.labels[axis])) for axis in ("layer", "head"))
    if sweep.info.get("model") != model.provenance.get("name") or max(layers) >= model.n_layers:
        raise UsageError("The newest sweep is of another model: run one on the page Patching.")
    quantity = sweep.quantity(None)
    words = style.chart_text(sweep, quantity)
    values, said, p = swept.by_head(sweep, quantity)
    shape = (model.n_layers, model.n_heads)
    shown, texts = np.full(shape, np.nan), np.full(shape, "not in the sweep", dtype=object)
    shown[np.ix_(layers, heads)], texts[np.ix_(layers, heads)] = values, said
    sure = frozenset(Head(layers[i], heads[j]) for i, j in zip(*np.nonzero(p <= style.ALPHA), strict=True))
    largest = " The largest over positions." if "position" in sweep.axes else ""
    note = f"{words.title}. {words.subtitle}.{largest} 0: no effect; framed: p ≤ {style.ALPHA}. {words.note}"
    return Score(shown, "Patching effect", words.scale, note, (), True, texts, sure)
