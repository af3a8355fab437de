"""Edits by hand: what a set of heads, ablated, patched or forced, does to the next token at once."""

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
from app import chosen, models, options, tasks
from app.patching.forced import Forced
from app.shown import Shown
from workbench.core import Edit, Head
from workbench.patching.resolve import unpaired
from workbench.plotting.attention_view import visible

PROMPT = "prompt"
#: Tokens that are shown of each of the two distributions.
SHOWN = 8
#: What can be done to the set's heads: on a prompt alone, and on one of the pairs.
ALONE = {"zero": "set to zero", "mean": "set to its mean over this prompt's positions"}
PAIRED = {
    "patch": "patched from the other run of the pair",
    "zero": "set to zero",
    "mean": "set to its mean over the pairs",
}
EVERYWHERE, AT_END = "every position", "the last position"


@dataclass(frozen=True)
class Place:
    """What is edited: a prompt that stands alone, or one run of a pair.

    Attributes:
        asked: the pairs; empty for the prompt alone.
        index: which pair.
        base: which run of it: ``clean`` or ``corrupt``.
        ids: the tokens of that run.
    """

    ids: tuple[int, ...]
    asked: str = ""
    index: int = 0
    base: str = "clean"

    def text(self, model: Any) -> str:
        """The prompt."""
        return str(model.tokenizer.decode(list(self.ids)))


@dataclass(frozen=True, eq=False)
class Change:
    """Next-token logits without and with the edits, and the pair's logit difference, where there is one."""

    before: Float[Tensor, "d_vocab"]
    after: Float[Tensor, "d_vocab"]
    differences: tuple[float, float] | None = None

    @property
    def kl(self) -> float:
        """``KL(before ‖ after)`` in nats."""
        p, q = self.before.double().log_softmax(-1), self.after.double().log_softmax(-1)
        return float((p.exp() * (p - q)).sum())

    def table(self, model: Any) -> pd.DataFrame:
        """The likeliest tokens before and after, in the order of the larger of both: ``token, id, before, after``."""
        p, q = self.before.softmax(-1), self.after.softmax(-1)
        ids = dict.fromkeys([*p.topk(SHOWN).indices.tolist(), *q.topk(SHOWN).indices.tolist()])
        rows = [(visible(model.tokenizer.decode([i])), i, float(p[i]), float(q[i])) for i in ids]
        rows.sort(key=lambda row: -max(row[2:]))
        return pd.DataFrame(rows, columns=["token", "id", "before", "after"])


def place(model: Any, name: str, asked: Mapping[str, Any], base: str) -> Place:
    """The widget that says what is edited, and what was chosen."""
    inputs = tasks.tokenised(name, dict(asked))
    names = [PROMPT, *map(str, range(1, len(inputs) + 1))]

    def label(name: str) -> str:
        if name == PROMPT:
            return "the prompt of the side bar"
        clean, corrupt = inputs.texts[int(name) - 1]
        return f"pair {name}: {clean if base == 'clean' else corrupt}"

    on = options.select("Edit", names, "on", format_func=label)
    if on == PROMPT:
        return Place(tuple(chosen.ids(model)))
    i = int(on) - 1
    ids = (inputs.clean if base == "clean" else inputs.corrupt)[i]
    return Place(tuple(ids.tolist()), json.dumps(asked, sort_keys=True), i, base)


def edits(heads: Sequence[Head], kind: str, at_end: bool, forced: Sequence[Forced]) -> tuple[Edit, ...]:
    """The edits of a set of heads and of forced rows."""
    position = "end" if at_end else None
    ablated = [Edit("z", head.layer, head.index, position, kind=kind) for head in heads]
    return (*ablated, *(row.edit() for row in forced))


@st.cache_resource(max_entries=64, show_spinner=False)
def change(name: str, where: Place, made: tuple[Edit, ...]) -> Change:
    """What the edits do there.

    Raises:
        UsageError: as `workbench.run`.
    """
    before, after = _run(name, where, ()), _run(name, where, made)
    if not where.asked:
        return Change(before.logits[0], after.logits[0])
    return Change(before.logits[0], after.logits[0], (float(before.scores()[0]), float(after.scores()[0])))


@st.cache_resource(max_entries=64, show_spinner=False)
def _run(name: str, where: Place, made: tuple[Edit, ...]) -> wb.Outcome:
    model = models.load(name)
    if not where.asked:
        alone = unpaired(model, [torch.tensor(where.ids)])
        return wb.run(model, alone, made, mean_over="positions", unedited=False)
    inputs = tasks.tokenised(name, json.loads(where.asked))
    return wb.run(model, inputs.of([where.index]), made, base=where.base, mean_over=inputs, unedited=False)


def shown(found: Change, model: Any, where: Place, made: Sequence[Edit], said: str) -> Shown:
    """Both distributions in one chart."""
    table = found.table(model)
    after = table["after"].to_numpy()
    words = {
        "title": "Next token, before and after",
        "subtitle": said,
        "scale": "probability",
        "bar_name": "after",
        "x_title": "next token",
        "reference": table["before"].to_numpy(),
        "reference_name": "before",
    }
    nothing = np.full(len(after), np.nan)  # one prompt: no interval
    about = {
        "model": model.provenance.get("name"),
        "prompt": where.text(model),
        "edits": list(made),
    }
    return Shown("bars", (after, nothing, nothing), (table["token"].tolist(),), words, about)
