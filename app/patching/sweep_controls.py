"""The part of the page Patching that starts a sweep, follows it in the worker process, and reads its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

import workbench as wb
from app import url_widgets
from app.messages import escape_markdown
from app.patching.pairs_input import PairsState
from app.swapped_names import job_model
from app.work import sweep_results
from app.work.background import Background
from app.work.result_files import SWEEPS, result_key
from workbench.core import SITES
from workbench.patching.scores_table import metrics_of
from workbench.patching.sites import has_heads

#: Edits of one cell at a time, by the value of the URL's ``edit``; the direction belongs to patches.
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
#: Where an edit is made: the run that is the base.
BASES = {"patch, denoise": "patch the corrupt run (denoise)", "patch, noise": "patch the clean run (noise)"}
BUTTON: dict[str, Any] = {"type": "primary", "icon": ":material/play_arrow:"}


def sweep_widgets() -> dict[str, Any]:
    """The widgets of a sweep, as the arguments of `workbench.sweep`."""
    site_column, by_column, edit_column, metric_column = st.columns([3, 4, 6, 4])
    with site_column:
        help_text = (
            "Which activation is edited. z: a head’s attention-weighted sum of values, before W_O. q, k: rotated, as "
            "attention receives them. k, v: of key/value heads. resid_pre, resid_mid, resid_post: the residual stream "
            "before, inside and after a layer. attn_out, mlp_out: what attention and MLP add to it."
        )
        site = url_widgets.select("Activation", list(SITES), "site", default="z", help=help_text)
    axes_names = ["head", "head × position", "position"] if has_heads(site) else ["layer", "layer × position"]
    with by_column:
        help_text = "One edit at a time, for each of these in every layer: a cell of the sweep."
        by = url_widgets.select("One edit for each", axes_names, "by", help=help_text)
    with edit_column:
        help_text = (
            "patch the corrupt run (denoise): clean values are inserted into it. patch the clean run (noise): corrupt "
            "values are inserted into it. All other edits are made in the clean run; mean is over the prompts, "
            "resample takes another prompt’s values."
        )
        edits = EDITS | (PATTERN_EDITS if site == "pattern" else {})
        if site == "pattern":
            help_text += " identity: each position attends to itself alone."
        label = {**{name: f"{name}, in the clean run" for name in edits}, **BASES}.__getitem__
        edit = url_widgets.select("Sweep edit", list(edits), "edit", format_func=label, help=help_text)
    with metric_column:
        names = metrics_of("logits")
        help_text = (
            "One number for each example, from the logits at the last position. logit difference: the answer’s logit "
            "minus the wrong answer’s."
        )
        options = {"default": "logit_difference", "format_func": lambda name: name.replace("_", " "), "help": help_text}
        metric = url_widgets.select("Metric", names, "metric", **options)
    axes = {"layer × position": "position"}.get(by, by).split(" × ")
    return {"site": site, "by": axes if len(axes) > 1 else axes[0], **edits[edit], "metric": metric}


def sweep_result(model: Any, model_name: str, pairs: PairsState, arguments: Mapping[str, Any]) -> wb.Sweep | None:
    """The sweep, where it is computed; else its button, or its progress. Pairs that cannot be used are not swept: the
    button says why."""
    label, prompts = "Run the sweep", pairs.prompts
    if prompts is None:
        st.button(label, key=f"start-{SWEEPS}", disabled=True, help=escape_markdown(pairs.blocked), **BUTTON)
        return None
    key = result_key(SWEEPS, model_name, model, prompts, arguments)
    source = f"{prompts['task']}, n = {prompts['n']}" if "task" in prompts else pairs.name
    request: dict[str, Any] = {**job_model(model_name), "prompts": prompts, "arguments": arguments}
    request["label"] = f"sweep of {arguments['site']} on {source}"
    sweep = Background(SWEEPS, key, request, sweep_results.load_sweep, label, BUTTON).result()
    if sweep is not None:
        st.session_state.setdefault(sweep_results.NEWEST, {})[model_name] = key
    return sweep
