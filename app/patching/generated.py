"""Texts before and after the edits: computed token by token while the page shows how far it is, and then stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import streamlit as st
import torch

import workbench as wb
from app import task_inputs, url_widgets
from app.patching.manual_edits import EditedPrompt
from workbench.core import Edit
from workbench.models.prompts import unpaired
from workbench.plotting.attention_view import visible

#: Parameters of the URL.
ON, COUNT = "generating", "new-tokens"
#: New tokens: at most, and at first.
MOST, DEFAULT = 60, 10
#: Results that stay in memory.
MAX_STORED = 32


def selected_count() -> int:
    """How many tokens the page generates; 0 where it does not."""
    return int(st.session_state.get(COUNT) or DEFAULT) if st.session_state.get(ON) else 0


def why_not(edits: Sequence[Edit]) -> str:
    """Why there is no text under these edits; empty where there is."""
    if any(edit.kind == "patch" for edit in edits):
        return "A patch takes its values from the pair’s other run, which has no generated tokens. Choose another edit."
    return ""


def generations(
    model_name: str, model: Any, edited: EditedPrompt, edits: tuple[Edit, ...], count: int
) -> wb.Generations:
    """Both texts. While they are computed there is a progress bar with a stop button; any other click stops, too.

    Raises:
        UsageError: as `workbench.generations`.
    """
    place = st.empty()  # also where nothing is shown: what follows keeps its place in the page
    stored, key = _stored(), (model_name, edited, edits, count)
    if key not in stored:
        with place.container():
            bar = st.progress(0.0, "Generating …")
            stop = url_widgets.set_value
            st.button("Stop", key="stop-generating", on_click=stop, args=(ON, False), icon=":material/stop_circle:")

        def show(done: int, total: int, _: str) -> None:
            bar.progress(done / total, f"Generating: {done} of {total} tokens")

        result = wb.generations(
            model,
            torch.tensor(edited.ids),
            edits=edits,
            max_new_tokens=count,
            mean_over=_mean_over(model_name, model, edited) if any(edit.kind == "mean" for edit in edits) else None,
            progress=show,
        )
        place.empty()
        while len(stored) >= MAX_STORED:
            stored.pop(next(iter(stored)), None)
        stored[key] = result
    return stored[key]


def summary(both: wb.Generations, edited: EditedPrompt, edits: Sequence[Edit]) -> str:
    """What differs first, and what the edits are at the new positions."""
    first = both.first_difference
    if first is None:
        text = f"All {len(both.before.ids)} tokens are the same."
    else:
        before, after = (visible(side.tokens[first]) for side in (both.before, both.after))
        p, q = both.before.probabilities[first], both.after.probabilities[first]
        both_tokens = f"“{before}” (p = {p:.3f}) before, “{after}” (p = {q:.3f}) after"
        text = f"Token {first + 1} is the first that differs: {both_tokens}."
    if edited.pairs and any(edit.kind == "mean" for edit in edits):
        text += " Here the mean is over all positions of the pairs: new positions have no mean of their own."
    return text


@st.cache_resource(show_spinner=False)
def _stored() -> dict[Any, wb.Generations]:
    return {}


def _mean_over(model_name: str, model: Any, edited: EditedPrompt) -> Any:
    """The inputs whose mean is written, as in the next token's chart: the pairs' clean runs, or the prompt itself."""
    if not edited.pairs:
        return unpaired(model, [torch.tensor(edited.ids)])
    return task_inputs.tokenize(model_name, json.loads(edited.pairs))
