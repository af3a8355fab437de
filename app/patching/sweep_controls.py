"""The part of the page Patching that starts a sweep, follows it in the worker process, and reads its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

import workbench as wb
from app import url_widgets
from app.swapped_names import job_model
from app.work import sweep_results
from app.work.background import Background
from app.work.result_files import SWEEPS, result_key
from workbench.core import SITES
from workbench.patching.sites import has_heads
from workbench.registry import METRICS

#: Edits of one cell at a time; the direction belongs to patches.
EDITS = {
    "patch, denoise": {"edit": "patch", "direction": "denoise"},
    "patch, noise": {"edit": "patch", "direction": "noise"},
    "zero": {"edit": "zero"},
    "mean": {"edit": "mean"},
    "resample": {"edit": "resample"},
    "scale × 2": {"edit": "scale", "factor": 2.0},
    "scale × 0.5": {"edit": "scale", "factor": 0.5},
}
#: Of attention rows alone.
PATTERN_EDITS = {"identity": {"edit": "identity", "u": 1.0}}
BUTTON = {"type": "primary", "icon": ":material/play_arrow:"}


def sweep_widgets() -> dict[str, Any]:
    """The widgets of a sweep, as the arguments of `workbench.sweep`."""
    site_column, by_column, edit_column, metric_column = st.columns(4)
    with site_column:
        help_text = "Activation to edit. z is a head’s attention-weighted sum of values, before W_O."
        site = url_widgets.select("Site", list(SITES), "site", default="z", help=help_text)
    axes_names = ["head", "head × position", "position"] if has_heads(site) else ["layer", "layer × position"]
    with by_column:
        by = url_widgets.select("By", axes_names, "by", help="In each layer, one edit for each of these.")
    with edit_column:
        help_text = "denoise: clean activations into the corrupt run. noise: corrupt activations into the clean run."
        edits = EDITS | (PATTERN_EDITS if site == "pattern" else {})
        if site == "pattern":
            help_text += " identity: each position attends to itself alone."
        edit = url_widgets.select("Edit", list(edits), "edit", help=help_text)
    with metric_column:
        names, label = METRICS.names(), lambda name: name.replace("_", " ")
        metric = url_widgets.select("Metric", names, "metric", default="logit_difference", format_func=label)
    axes = {"layer × position": "position"}.get(by, by).split(" × ")
    return {"site": site, "by": axes if len(axes) > 1 else axes[0], **edits[edit], "metric": metric}


def sweep_result(
    model: Any, model_name: str, prompts: Mapping[str, Any], arguments: Mapping[str, Any]
) -> wb.Sweep | None:
    """The sweep, where it is computed; else its button, or its progress."""
    key = result_key(SWEEPS, model_name, model, prompts, arguments)
    source = f"{prompts['task']}, n = {prompts['n']}" if "task" in prompts else "own pairs"
    request: dict[str, Any] = {**job_model(model_name), "prompts": prompts, "arguments": arguments}
    request["label"] = f"sweep of {arguments['site']} on {source}"
    sweep = Background(SWEEPS, key, request, sweep_results.load_sweep, "Run the sweep", BUTTON).result()
    if sweep is not None:
        st.session_state.setdefault(sweep_results.NEWEST, {})[model_name] = key
    return sweep
