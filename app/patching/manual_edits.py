"""Manual edits: what a set of heads, ablated, patched or with forced attention, does to the next token."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
import torch
from jaxtyping import Float
from torch import Tensor

import workbench as wb
from app import models, sidebar, task_inputs, url_widgets
from app.downloadable import Chart
from app.patching.forced_rows import ForcedRow
from workbench.core import Edit, Head
from workbench.io.token_text import token_text
from workbench.models.precision import at_least_float32
from workbench.models.prompts import unpaired
from workbench.plotting.attention_view import visible

PROMPT = "prompt"
#: Tokens that are shown of each of the two distributions.
TOP_TOKENS = 8
#: Kinds of edits: of the side bar's prompt, and of one of the pairs.
UNPAIRED = {"zero": "set to zero", "mean": "set to the mean over this prompt's positions"}
PAIRED = {
    "patch": "patched from the other run of the pair",
    "zero": "set to zero",
    "mean": "set to the mean over the pairs",
}
EVERYWHERE, AT_END = "every position", "the last position"


@dataclass(frozen=True)
class EditedPrompt:
    """The prompt that is edited: the side bar's, or one run of a pair.

    Attributes:
        ids: its tokens.
        pairs: the prompts as `load_prompts` takes them, as JSON; empty for the side bar's prompt.
        index: which pair.
        base: which run of it: ``clean`` or ``corrupt``.
    """

    ids: tuple[int, ...]
    pairs: str = ""
    index: int = 0
    base: str = "clean"

    def text(self, model: Any) -> str:
        """The prompt."""
        return str(model.tokenizer.decode(list(self.ids)))


@dataclass(frozen=True, eq=False)
class Change:
    """Next-token logits without and with the edits, and the pair's logit difference, where there is a pair."""

    before: Float[Tensor, "d_vocab"]
    after: Float[Tensor, "d_vocab"]
    logit_differences: tuple[float, float] | None = None

    @property
    def kl(self) -> float:
        """``KL(before ‖ after)`` in nats."""
        p, q = self.before.double().log_softmax(-1), self.after.double().log_softmax(-1)
        return max(0.0, float((p.exp() * (p - q)).sum()))  # rounding can leave a little less than nothing

    def table(self, model: Any) -> pd.DataFrame:
        """The likeliest tokens before and after, ordered by the larger of both: ``token, id, before, after``."""
        p, q = (at_least_float32(logits).softmax(-1) for logits in (self.before, self.after))
        ids = dict.fromkeys([*p.topk(TOP_TOKENS).indices.tolist(), *q.topk(TOP_TOKENS).indices.tolist()])
        rows = [(visible(token_text(model.tokenizer, i)), i, float(p[i]), float(q[i])) for i in ids]
        rows.sort(key=lambda row: -max(row[2:]))
        return pd.DataFrame(rows, columns=["token", "id", "before", "after"])


def prompt_widget(model: Any, model_name: str, prompts: Mapping[str, Any], base: str) -> EditedPrompt:
    """The widget that selects the prompt to edit.

    Args:
        prompts: the pairs, as `load_prompts` takes them.
        base: which run of a pair is edited.
    """
    inputs = task_inputs.tokenize(model_name, dict(prompts))
    names = [PROMPT, *map(str, range(1, len(inputs) + 1))]

    def label(name: str) -> str:
        if name == PROMPT:
            return "the side bar’s prompt"
        clean, corrupt = inputs.texts[int(name) - 1]
        return f"pair {name}: {clean if base == 'clean' else corrupt}"

    name = url_widgets.select("On", names, "on", format_func=label)
    if name == PROMPT:
        return EditedPrompt(tuple(sidebar.token_ids(model)))
    i = int(name) - 1
    ids = (inputs.clean if base == "clean" else inputs.corrupt)[i]
    return EditedPrompt(tuple(ids.tolist()), json.dumps(prompts, sort_keys=True), i, base)


def to_edits(heads: Sequence[Head], kind: str, at_end: bool, rows: Sequence[ForcedRow]) -> tuple[Edit, ...]:
    """The edits of a set of heads and of forced rows."""
    position = "end" if at_end else None
    ablations = [Edit("z", head.layer, head.index, position, kind=kind) for head in heads]
    return (*ablations, *(row.edit() for row in rows))


@st.cache_resource(max_entries=64, show_spinner=False)
def compute_change(model_name: str, edited: EditedPrompt, edits: tuple[Edit, ...]) -> Change:
    """The next token without and with the edits.

    Raises:
        UsageError: as `workbench.run`.
    """
    before, after = _run(model_name, edited, ()), _run(model_name, edited, edits)
    if not edited.pairs:
        return Change(before.logits[0], after.logits[0])
    return Change(before.logits[0], after.logits[0], (float(before.scores()[0]), float(after.scores()[0])))


@st.cache_resource(max_entries=64, show_spinner=False)
def _run(model_name: str, edited: EditedPrompt, edits: tuple[Edit, ...]) -> wb.Outcome:
    model = models.load(model_name)
    if not edited.pairs:
        inputs = unpaired(model, [torch.tensor(edited.ids)])
        return wb.run(model, inputs, edits, mean_over="positions", unedited=False)
    inputs = task_inputs.tokenize(model_name, json.loads(edited.pairs))
    return wb.run(model, inputs.of([edited.index]), edits, base=edited.base, mean_over=inputs, unedited=False)


def change_chart(change: Change, model: Any, edited: EditedPrompt, edits: Sequence[Edit], subtitle: str) -> Chart:
    """Both distributions in one chart."""
    table = change.table(model)
    after = table["after"].to_numpy()
    options = {
        "title": "Next-token probability before and after the edits",
        "subtitle": subtitle,
        "scale": "probability",
        "bar_name": "after",
        "x_title": "next token",
        "reference": table["before"].to_numpy(),
        "reference_name": "before",
    }
    no_interval = np.full(len(after), np.nan)  # one prompt
    metadata = {
        "model": model.provenance.get("name"),
        **({"operators": model.provenance["operators"]} if model.operators else {}),
        "prompt": edited.text(model),
        "edits": list(edits),
    }
    return Chart("bars", (after, no_interval, no_interval), (table["token"].tolist(),), options, metadata)
