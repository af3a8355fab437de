"""Sweeps of the page: each head in each step, one at a time, computed in the background."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

import workbench as wb
from app import url_widgets
from app.diffusion.passes import edited_pass, passes_widget
from app.diffusion.readouts import weights_of
from app.diffusion.sampled import class_name
from app.diffusion.view import View
from app.messages import show_error
from app.swapped_names import job_model
from app.work import sweep_results
from app.work.background import Background
from app.work.result_files import SWEEPS, result_key
from workbench.core import PASSES as PASSES_OF
from workbench.core import at_positions
from workbench.errors import UsageError
from workbench.patching.scores_table import metrics_of

EDIT, METRIC, N, PASSES = "sample-edit", "sample-metric", "sample-n", "sample-passes"
#: Edits of one head in one step, by the value of the URL's ``sample-edit``.
EDITS: Mapping[str, Mapping[str, Any]] = {
    "patch": {"edit": "patch", "direction": "noise"},
    "zero": {"edit": "zero"},
    "mean": {"edit": "mean"},
    "identity": {"site": "pattern", "edit": "identity", "u": 1.0},
}
LABELS = {
    "patch": "patch from the other class’s run",
    "zero": "set to zero",
    "mean": "mean over the samples",
    "identity": "each patch attends to itself",
}
LABEL = "Run the sweep"
FIRST_STEP = (
    "In step 0 the effect is exactly 0: this pass does not read the class, and both runs start from the same noise, so "
    "the two runs’ z are the same."
)
#: Samples of a sweep at most, and by default.
MOST, USUAL = 64, 8
EDIT_HELP = (
    "What is done to z of a head in a step, its attention-weighted sum of values before W_O; the last one forces its "
    "pattern."
)
METRIC_HELP = (
    "One number for each sample. Of classes, the answer is the class, and the other class the wrong one. How far "
    "images are apart is a metric where metrics read the image’s pixels."
)
N_HELP = "Samples of the class, from this seed on. Intervals and p-values are over them."


def sweep_widgets(model: Any) -> tuple[dict[str, Any], int]:
    """The arguments of `workbench.sweep`, and the number of samples.

    Args:
        model: sampled as the page says; its outputs are what metrics read (`image_distance` reads every sample).
    """
    outputs = model.outputs_are
    names = metrics_of(outputs)
    edit_column, passes_column = st.columns([5, 3])
    with edit_column:
        edit = url_widgets.select("Edit of a head in a step", list(EDITS), EDIT, format_func=LABELS.get, help=EDIT_HELP)
    with passes_column:
        positions = edited_pass(passes_widget(model, PASSES))
    metric_column, n_column = st.columns([5, 3])
    with n_column:
        n = url_widgets.number("Samples", 1, MOST, N, USUAL, help=N_HELP)
    usual = "logit_difference" if outputs == "logits" else "image_distance"
    with metric_column:
        label = {name: name.replace("_", " ") for name in names}.get
        metric = url_widgets.select("Metric", names, METRIC, default=usual, format_func=label, help=METRIC_HELP)
    where = {} if positions is None else {"positions": positions}
    return {"site": "z", "by": ["step", "head"], **EDITS[edit], **where, "metric": metric}, n


def sweep_result(view: View, arguments: Mapping[str, Any], n: int) -> wb.Sweep | None:
    """The sweep, where it is computed; else its button, or its progress. Where it has nothing to compare, why."""
    button: dict[str, Any] = {"type": "primary", "icon": ":material/play_arrow:"}
    if arguments["edit"] == "patch" or arguments["metric"] == "logit_difference":
        try:
            view.settings.check_other()
        except UsageError as error:
            show_error(error)
            st.button(LABEL, key=f"start-{SWEEPS}", disabled=True, **button)
            return None
    prompts, settings, readout = view.settings.prompts(n), view.settings, view.readout
    sampling = {**settings.sampling, "readout": readout}
    key = result_key(SWEEPS, view.model_name, view.base, prompts, arguments, sampling, weights_of(readout))
    request: dict[str, Any] = {**job_model(view.model_name), "prompts": prompts, "arguments": dict(arguments)}
    request["sampling"] = sampling
    request["label"] = f"sweep of every head in {settings.steps} steps, n = {n}"
    return Background(SWEEPS, key, request, sweep_results.load_sweep, LABEL, button).result()


def direction_line(view: View, arguments: Mapping[str, Any]) -> str:
    """What is patched into what; empty of other edits, and where there is no other class."""
    if arguments["edit"] != "patch" or view.settings.other == view.settings.label:
        return ""
    where = at_positions(arguments, arguments["by"])
    into, other = (class_name(name) for name in (view.settings.label, view.settings.other))
    line = (
        f"Direction: noise. z of one head in one step{where} comes from the run of {other} and is patched into the run "
        f"of {into}, which starts from the same noise."
    )
    return f"{line} {FIRST_STEP}" if arguments.get("positions") == PASSES_OF["none"] else line
