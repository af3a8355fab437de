"""The task whose prompts a page shows or patches: its widgets, and its prompts in a model's tokens."""

from __future__ import annotations

import json
import warnings
from typing import Any

import streamlit as st

from app import models, url_widgets
from app.work.prompts import load_prompts
from workbench.inputs.paired import PairedInputs
from workbench.inputs.rows import PairNotice
from workbench.patching.resolve import resolve_inputs
from workbench.registry import TASKS

#: Parameters of the URL.
PARAMS = TASK, N, SEED = "task", "n", "seed"
#: Prompts at most: they are run one by one.
MAX_PROMPTS = 200
MAX_SEED = 10_000


def task_widgets() -> dict[str, Any]:
    """The widgets, and the selected prompts as `load_prompts` takes them: ``{"task": …, "n": …, "seed": …}``."""
    left, middle, right = st.columns([2, 1, 1])
    with left:
        task = url_widgets.select("Task", TASKS.names(), TASK, default="ioi")
    with middle:
        n = url_widgets.number("Prompts", 1, MAX_PROMPTS, N, default=12)
    with right:
        seed = url_widgets.number("Seed", 0, MAX_SEED, SEED, default=0)
    return {"task": task, "n": n, "seed": seed}


def hidden_widgets() -> None:
    """In place of `task_widgets` where no task is selected: values of the URL that cannot be used are named."""
    url_widgets.hidden_select(TASKS.names(), TASK)
    url_widgets.hidden_number(1, MAX_PROMPTS, N)
    url_widgets.hidden_number(0, MAX_SEED, SEED)


def tokenize(model_name: str, prompts: dict[str, Any]) -> PairedInputs:
    """Prompts in a model's tokens."""
    return _tokenize(model_name, json.dumps(prompts, sort_keys=True))


@st.cache_resource(max_entries=4, show_spinner="Reading the prompts …")
def _tokenize(model_name: str, prompts: str) -> PairedInputs:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PairNotice)  # the page says it
        return resolve_inputs(load_prompts(json.loads(prompts)), models.load(model_name))
