"""The part of the page Patching that asks for a sweep, follows it in the worker process, and reads its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

import workbench as wb
from app import options
from app.plain import plain
from app.work import kept, swept
from app.work.background import jobs, ready, watch
from app.work.swept import SWEEPS
from workbench.core import SITES
from workbench.patching.sites import has_heads
from workbench.registry import METRICS

#: What can be done at a site, one cell at a time; the direction belongs to patches.
EDITS = {
    "patch, denoise": {"edit": "patch", "direction": "denoise"},
    "patch, noise": {"edit": "patch", "direction": "noise"},
    "zero": {"edit": "zero"},
    "mean": {"edit": "mean"},
    "resample": {"edit": "resample"},
}


def arguments() -> dict[str, Any]:
    """The widgets of a sweep, as the arguments of `workbench.sweep`."""
    site_, by_, edit_, metric_ = st.columns(4)
    with site_:
        site = options.select("Site", list(SITES), "site", first="z", help="Where: z is what a head's values give.")
    heads = has_heads(site)
    names = ["head", "head × position", "position"] if heads else ["layer", "layer × position"]
    with by_:
        by = options.select("By", names, "by", help="One edit for each of these in each layer.")
    with edit_:
        edit = options.select("Edit", list(EDITS), "edit", help="denoise: clean values into the corrupt run.")
    with metric_:
        metric = options.select(
            "Metric",
            METRICS.names(),
            "metric",
            first="logit_difference",
            format_func=lambda name: name.replace("_", " "),
        )
    axes = {"layer × position": "position"}.get(by, by).split(" × ")
    return {"site": site, "by": axes if len(axes) > 1 else axes[0], **EDITS[edit], "metric": metric}


def of(model: Any, name: str, asked: Mapping[str, Any], given: Mapping[str, Any]) -> wb.Sweep | None:
    """The sweep, once it is there; until then a button, or how far it is."""
    key = kept.key(SWEEPS, name, model, asked, given)
    found = ready(SWEEPS, key, swept.read)
    if found is not None:
        st.session_state.setdefault(swept.NEWEST, {})[name] = key
        return found
    job = jobs().with_key(key)
    if job is not None and not job.over:
        watch(job)
        return None
    if job is not None and job.state == "stopped":
        far = f" at {job.done:,} of {job.total:,} edited runs. They are kept" if job.total else " before it began"
        st.info(f"Stopped{far}: run it again to go on.")
    if job is not None and job.state == "failed":
        st.error(plain(job.why), icon=":material/error:")
    if st.button("Run the sweep", type="primary", icon=":material/play_arrow:", key="run-sweep"):
        on = f"{asked['task']}, n = {asked['n']}" if "task" in asked else "own pairs"
        label = f"sweep of {given['site']} on {on}"
        jobs().submit(key, {"kind": SWEEPS, "model": name, "prompts": asked, "arguments": given, "label": label})
        st.rerun()
    return None
