"""A sweep over the open image, or over the pair: its widgets, and its result from the worker process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

import workbench as wb
from app import url_widgets
from app.swapped_names import job_model
from app.vision.edits import KINDS, Editing
from app.work import sweep_results
from app.work.background import Background
from app.work.result_files import SWEEPS, result_key
from workbench.core import SITES
from workbench.patching.scores_table import metrics_of
from workbench.patching.sites import has_heads

#: Parameters of the URL.
SITE, BY, METRIC = "image-site", "image-by", "image-metric"
LABEL = "Run the sweep"
BUTTON: dict[str, Any] = {"type": "primary", "icon": ":material/play_arrow:"}
FIRST = {"logits": "logit_difference", "features": "feature_cosine"}


def sweep_widgets(model: Any, editing: Editing) -> dict[str, Any]:
    """The widgets, as the arguments of `workbench.sweep`; the edit and where it is made are those of the heads."""
    site_column, by_column, metric_column = st.columns([4, 5, 5], vertical_alignment="bottom")
    with site_column:
        help_text = (
            "Which activation is edited. z: a head’s attention-weighted sum of values, before W_O. q, k, v: as "
            "attention receives them. resid_pre, resid_mid, resid_post: the residual stream before, inside and after "
            "a layer. attn_out, mlp_out: what attention and MLP add to it."
        )
        sites = [site for site in SITES if site != "pattern" or editing.is_patch or editing.kind == "zero"]
        site = url_widgets.select("Activation", sites, SITE, default="z", help=help_text)
    with by_column:
        axes = ["head", "position"] if has_heads(site) else ["layer", "position"]
        help_text = "One edit at a time, for each of these in every layer: a cell of the sweep."
        by = url_widgets.select("One edit for each", axes, BY, help=help_text)
    with metric_column:
        names = metrics_of(model.outputs_are)
        help_text = (
            "logit difference: the logit of the clean image’s likeliest class minus that of the corrupt image’s (the "
            "second likeliest, without one). feature cosine, distance: how alike the feature is to the clean image’s."
        )
        options = {"default": FIRST.get(model.outputs_are), "format_func": lambda name: name.replace("_", " ")}
        metric = url_widgets.select("Metric", names, METRIC, help=help_text, **options)
    where = {"positions": [editing.position]} if editing.position and by != "position" else {}
    return {"site": site, "by": by, **KINDS[editing.kind], **where, "metric": metric}


def sweep_result(
    model: Any, model_name: str, images: Mapping[str, Any], name: str, arguments: Mapping[str, Any]
) -> wb.Sweep | None:
    """The sweep, where it is computed; else its button, or its progress with a stop.

    Args:
        images: as `app.work.images.read_pair` takes them.
        name: what the progress bar calls them.
    """
    key = result_key(SWEEPS, model_name, model, images, arguments)
    request: dict[str, Any] = {**job_model(model_name), "prompts": {"images": images}, "arguments": arguments}
    request["label"] = f"sweep of {arguments['site']} on {name}"
    return Background(SWEEPS, key, request, sweep_results.load_sweep, LABEL, BUTTON).result()
