"""The task whose prompts a page shows or patches: its widgets, and its prompts in a model's tokens."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from app import models, options
from app.work import sweeps
from workbench.inputs.paired import PairedInputs
from workbench.patching.resolve import resolve_inputs
from workbench.registry import TASKS

#: Prompts at most: they are run one by one.
MOST = 200


def choose() -> dict[str, Any]:
    """The widgets, and what was chosen, as `sweeps.prompts` takes it."""
    left, middle, right = st.columns([2, 1, 1])
    with left:
        task = options.select("Task", TASKS.names(), "task", first="ioi")
    with middle:
        n = options.number("Prompts", 1, MOST, "n", first=12)
    with right:
        seed = options.number("Seed", 0, 10_000, "seed", first=0)
    return {"task": task, "n": n, "seed": seed}


def tokenised(name: str, asked: dict[str, Any]) -> PairedInputs:
    """Prompts in a model's tokens."""
    return _tokenised(name, json.dumps(asked, sort_keys=True))


@st.cache_resource(max_entries=4, show_spinner="Reading the prompts …")
def _tokenised(name: str, asked: str) -> PairedInputs:
    return resolve_inputs(sweeps.prompts(json.loads(asked)), models.load(name))
