"""The part of the page Patching that asks for a sweep, follows it in the worker process, and reads its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

import workbench as wb
from app import url_widgets
from app.messages import escape_markdown
from app.work import result_files, sweep_results
from app.work.background import jobs, ready, watch
from app.work.sweep_results import SWEEPS
from workbench.core import SITES
from workbench.patching.metrics import METRICS
from workbench.patching.sites import has_heads

#: What can be done at a site, one cell at a time; the direction belongs to patches.
EDITS = {
    "patch, denoise": {"edit": "patch", "direction": "denoise"},
    "patch, noise": {"edit": "patch", "direction": "noise"},
    "zero": {"edit": "zero"},
    "mean": {"edit": "mean"},
    "resample": {"edit": "resample"},
}


def sweep_widgets() -> dict[str, Any]:
    """The widgets of a sweep, as the arguments of `workbench.sweep`."""
    site_, by_, edit_, metric_ = st.columns(4)
    with site_:
        site = url_widgets.select("Site", list(SITES), "site", first="z", help="Where: z is what a head's values give.")
    heads = has_heads(site)
    names = ["head", "head × position", "position"] if heads else ["layer", "layer × position"]
    with by_:
        by = url_widgets.select("By", names, "by", help="One edit for each of these in each layer.")
    with edit_:
        edit = url_widgets.select("Edit", list(EDITS), "edit", help="denoise: clean values into the corrupt run.")
    with metric_:
        metric = url_widgets.select("Metric", list(METRICS), "metric", format_func=lambda name: name.replace("_", " "))
    axes = {"layer × position": "position"}.get(by, by).split(" × ")
    return {"site": site, "by": axes if len(axes) > 1 else axes[0], **EDITS[edit], "metric": metric}


def sweep_result(model: Any, name: str, asked: Mapping[str, Any], given: Mapping[str, Any]) -> wb.Sweep | None:
    """The sweep, once it is there; until then a button, or how far it is."""
    key = result_files.result_key(SWEEPS, name, model, asked, given)
    found = ready(SWEEPS, key, sweep_results.load_sweep)
    if found is not None:
        st.session_state.setdefault(sweep_results.NEWEST, {})[name] = key
        return found
    job = jobs().newest(key)
    if job is not None and not job.is_finished:
        watch(job)
        return None
    if job is not None and job.state == "stopped":
        far = f" at {job.done:,} of {job.total:,} edited runs. They are kept" if job.total else " before it began"
        st.info(f"Stopped{far}: run it again to go on.")
    if job is not None and job.state == "failed":
        st.error(escape_markdown(job.error), icon=":material/error:")
    if st.button("Run the sweep", type="primary", icon=":material/play_arrow:", key="run-sweep"):
        on = f"{asked['task']}, n = {asked['n']}" if "task" in asked else "own pairs"
        label = f"sweep of {given['site']} on {on}"
        jobs().submit(key, {"kind": SWEEPS, "model": name, "prompts": asked, "arguments": given, "label": label})
        st.rerun()
    return None
