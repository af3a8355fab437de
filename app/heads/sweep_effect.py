"""The effect of patching each head, from a finished sweep of this model."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import numpy as np
import streamlit as st

import workbench as wb
from app import url_state
from app.heads.score import Score, nothing
from app.work import sweep_results
from app.work.result_files import SWEEPS, result_path, result_paths
from workbench.core import Head, at_positions
from workbench.errors import BadInput, UsageError
from workbench.plotting import style

EFFECT = "patching_effect"
LABEL = "patching effect (newest sweep)"
#: URL parameter, followed by the model's name: the sweep's key, which is also the name of its file.
PARAM = "swept-"
_KEY = re.compile(r"[0-9a-f]{64}")
#: Axes of sweeps whose cells are heads.
AXES = (("layer", "head"), ("layer", "head", "position"))


def newest_sweep_key(model_name: str, model: Any) -> str | None:
    """The key of a model's sweep: the one shown last in this session, the one in the URL, or the newest on disk."""
    in_session = st.session_state.get(sweep_results.NEWEST, {}).get(model_name)
    in_url = url_state.get_param(PARAM + model_name)
    key = in_url if url_state.navigated_back() else in_session or in_url
    if not (key and _KEY.fullmatch(key) and result_path(SWEEPS, key).is_file()):
        key = _newest_on_disk(model)
    if key is not None:
        url_state.set_param(PARAM + model_name, key)
    return key


def _newest_on_disk(model: Any) -> str | None:
    for path in result_paths(SWEEPS):
        with suppress(BadInput):
            sweep = sweep_results.load_sweep(path)
            if _is_of(sweep, model) and sweep.axes in AXES:
                return path.stem
    return None


def _is_of(sweep: wb.Sweep, model: Any) -> bool:
    """Whether a sweep is of a model of that name with those weights and operators."""
    operators = {str(layer): str(bound) for layer, bound in model.operators.items()}
    same = all(
        sweep.info.get(key) == model.provenance.get(name)
        for key, name in (("model", "name"), ("model_sha256", "sha256"))
    )
    return same and sweep.info.get("operators", {}) == operators


def score(model: Any, key: str) -> Score:
    """The effect of each head, with interval and p-value.

    Raises:
        UsageError: the sweep's cells are not heads of this model.
        BadInput: the file is damaged.
    """
    sweep = sweep_results.load_sweep(result_path(SWEEPS, key))
    if sweep.axes not in AXES:
        raise UsageError(f"The newest sweep is by {' × '.join(sweep.axes)}. Run one by head on the Patching page.")
    layers, heads = (list(map(int, sweep.labels[axis])) for axis in ("layer", "head"))
    if not _is_of(sweep, model) or max(layers) >= model.n_layers:
        raise UsageError("The newest sweep is of another model. Run one of this model on the Patching page.")
    quantity = sweep.quantity(None)
    labels = style.chart_text(sweep, quantity)
    swept_values, swept_texts, p = sweep_results.by_head(sweep, quantity)
    shape = (model.n_layers, model.n_heads)
    cells = np.ix_(layers, heads)
    values, low, high = (np.full(shape, np.nan) for _ in range(3))
    texts = np.full(shape, "not in the sweep", dtype=object)
    values[cells], texts[cells] = swept_values, swept_texts
    low[cells], high[cells] = sweep_results.intervals_by_head(sweep, quantity)
    significant = frozenset(Head(layers[i], heads[j]) for i, j in zip(*np.nonzero(p <= style.ALPHA), strict=True))
    edited = f"at each of {len(sweep.labels['position'])} positions" if "position" in sweep.axes else "at all positions"
    edited = at_positions(sweep.info, sweep.axes).strip() or edited
    over = f"Mean over {sweep.n} prompt{'' if sweep.n == 1 else 's'}, with edits {edited}."
    largest = " Each cell is the largest value over positions." if "position" in sweep.axes else ""
    description = f"{labels.title}. {labels.subtitle}. {sweep.baseline_note} {over}{largest}"
    note = f"{description} 0: no effect. Framed cells: p ≤ {style.ALPHA}. "
    outside = np.ones(shape, dtype=bool)
    outside[cells] = False
    reasons = {"not in the sweep.": outside, "the sweep has none.": ~outside & ~np.isfinite(values)}
    metadata = {"task": sweep.info.get("task"), "n": sweep.n, "edited": sweep_results.edits_of(sweep)}
    patched = Score(
        *(values, "Patching effect", labels.scale, note + labels.note, (), True, texts, significant),
        by_size=True,
        low=None if np.isnan(low).all() else low,
        high=None if np.isnan(high).all() else high,
        without={reason: [Head(i, j) for i, j in np.argwhere(x).tolist()] for reason, x in reasons.items() if x.any()},
        metadata=metadata,
    )
    return patched if np.isfinite(values).any() else nothing(patched)
