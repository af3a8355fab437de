"""Manual edits: what a set of heads, ablated, patched or with forced attention, does to the next token."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import streamlit as st
import torch

import workbench as wb
from app import models, sidebar, task_inputs, url_widgets
from app.downloadable import Chart
from app.messages import escape_markdown
from app.patching.forced_rows import ForcedRow
from workbench.core import Edit, Head, full_name
from workbench.models.prompts import chat_ids, unpaired
from workbench.plotting.attention_view import visible
from workbench.plotting.source import Source

#: Parameters of the URL: the prompt, whether as a chat, the run of a pair, the edit and its positions.
ON, CHAT, RUN, KIND, AT = "on", "chat", "run-by-hand", "kind-by-hand", "at-by-hand"
PROMPT = "prompt"
#: Runs of a pair, as they are written.
CLEAN, CORRUPT = "clean run", "corrupt run"
RUNS = {CLEAN: "clean", CORRUPT: "corrupt"}
#: Tokens that are shown of each of the two distributions.
TOP_TOKENS = 8
#: Kinds of edits: of the side bar's prompt, and of one of the pairs.
UNPAIRED = {"zero": "set to zero", "mean": "set to the mean over this prompt's positions"}
PAIRED = {
    "patch": "patched from the other run of the pair",
    "zero": "set to zero",
    "mean": "set to the mean over the pairs' clean runs",
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
        chat: whether the side bar's prompt is in the model's chat template.
        other: the text of the pair's other run, from which a patch takes its values.
    """

    ids: tuple[int, ...]
    pairs: str = ""
    index: int = 0
    base: str = "clean"
    chat: bool = False
    other: str = ""

    def text(self, model: Any) -> str:
        """The prompt."""
        return str(model.tokenizer.decode(list(self.ids)))


def prompt_widget(model: Any, model_name: str, prompts: Mapping[str, Any] | None) -> EditedPrompt:
    """The widgets that select the prompt to edit, and which run of a pair.

    Args:
        prompts: the pairs, as `load_prompts` takes them; None where they cannot be used.

    Raises:
        UsageError: the side bar's prompt is empty or too long, or the chat template refuses it.
    """
    inputs = None if prompts is None else task_inputs.tokenize(model_name, dict(prompts))
    names = [PROMPT] if inputs is None else [PROMPT, *map(str, range(1, len(inputs) + 1))]

    def label(name: str) -> str:
        return (
            "the side bar’s prompt"
            if name == PROMPT or inputs is None
            else f"pair {name}: {inputs.texts[int(name) - 1][0]}"
        )

    name = url_widgets.select("Edited prompt", names, ON, format_func=label)
    if name == PROMPT or inputs is None:
        return _of_sidebar(model)
    help_text = "Which run of the pair is edited (the base run). A patch takes its values from the other one."
    run = url_widgets.segments("Edited run", list(RUNS), RUN, help=help_text)
    i, base = int(name) - 1, RUNS[run]
    st.caption(escape_markdown(f"The {run} is edited: {inputs.texts[i][base == 'corrupt']}"))
    ids = (inputs.clean if base == "clean" else inputs.corrupt)[i]
    other = inputs.texts[i][base == "clean"]
    return EditedPrompt(tuple(ids.tolist()), json.dumps(prompts, sort_keys=True), i, base, other=other)


def _of_sidebar(model: Any) -> EditedPrompt:
    if not getattr(model.tokenizer, "chat_template", None):
        return EditedPrompt(tuple(sidebar.token_ids(model)))
    help_text = (
        "The prompt is what a user says, in the model’s own chat template. Positions then count in that longer text."
    )
    if not url_widgets.toggle("As a chat", CHAT, help=help_text):
        return EditedPrompt(tuple(sidebar.token_ids(model)))
    sidebar.token_ids(model)  # empty or too long
    return EditedPrompt(tuple(chat_ids(model, sidebar.prompt()).tolist()), chat=True)


def edit_widgets(edited: EditedPrompt) -> tuple[str, bool]:
    """The kind of edit of the set, and whether it is made at the last position alone."""
    kinds = PAIRED if edited.pairs else UNPAIRED
    help_text = "What is done to z of every head of the set: its attention-weighted sum of values, before W_O."
    kind = url_widgets.select("Edit of the set", list(kinds), KIND, format_func=kinds.__getitem__, help=help_text)
    help_text = "Where z is edited: at each position of the prompt, or only where the next token is predicted."
    return kind, url_widgets.select("At which positions", [EVERYWHERE, AT_END], AT, help=help_text) == AT_END


def describe(edited: EditedPrompt, heads: Sequence[Head], kind: str, at_end: bool, rows: Sequence[ForcedRow]) -> str:
    """The edits in a few words: ``2 heads set to zero, every position · 1 forced row``."""
    kinds = PAIRED if edited.pairs else UNPAIRED
    parts = [f"{_counted(len(heads), 'head')} {kinds[kind]}, {AT_END if at_end else EVERYWHERE}"] if heads else []
    parts += [_counted(len(rows), "forced row")] if rows else []
    return " · ".join([*parts, *([f"{edited.base} run"] if edited.pairs else [])])


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def to_edits(heads: Sequence[Head], kind: str, at_end: bool, rows: Sequence[ForcedRow]) -> tuple[Edit, ...]:
    """The edits of a set of heads and of forced rows."""
    position = "end" if at_end else None
    ablations = [Edit("z", head.layer, head.index, position, kind=kind) for head in heads]
    return (*ablations, *(row.edit() for row in rows))


@st.cache_resource(max_entries=64, show_spinner=False)
def compute_change(model_name: str, edited: EditedPrompt, edits: tuple[Edit, ...]) -> wb.Outcome:
    """The next token without and with the edits; what it is without them is computed once for all of them.

    Raises:
        UsageError: as `workbench.run`.
    """
    return replace(_run(model_name, edited, edits), plain=_run(model_name, edited, ()).logits)


@st.cache_resource(max_entries=64, show_spinner=False)
def _run(model_name: str, edited: EditedPrompt, edits: tuple[Edit, ...]) -> wb.Outcome:
    model = models.load(model_name)
    if not edited.pairs:
        inputs = unpaired(model, [torch.tensor(edited.ids)])
        return wb.run(model, inputs, edits, mean_over="positions", unedited=False)
    inputs = task_inputs.tokenize(model_name, json.loads(edited.pairs))
    return wb.run(model, inputs.of([edited.index]), edits, base=edited.base, mean_over=inputs, unedited=False)


def source(model: Any, edited: EditedPrompt, edits: Sequence[Edit], pairs: str = "") -> Source:
    """What the downloads name: the prompt, and what was edited in it, by what and from where.

    Args:
        pairs: what the pairs are called, where one of them is edited.
    """
    task = f"{pairs}, pair {edited.index + 1}, {edited.base} run" if edited.pairs else ""
    name = full_name(model.provenance.get("name"), model.operators)
    return Source(name, edited.text(model), task=task, edited=in_full(edited, edits))


def in_full(edited: EditedPrompt, edits: Sequence[Edit]) -> str:
    """The edits with the name of every head: ``z of heads 1.3, 1.5 set to zero at every position``."""
    of_set = [edit for edit in edits if edit.site == "z"]
    parts = []
    if of_set:
        kind, position = str(of_set[0].kind), of_set[0].position
        heads = ", ".join(f"{edit.layer}.{edit.head}" for edit in of_set)
        other = "corrupt" if edited.base == "clean" else "clean"
        what = (PAIRED if edited.pairs else UNPAIRED)[kind]
        what = f"patched from the {other} run “{edited.other}”" if kind == "patch" else what
        where = AT_END if position == "end" else EVERYWHERE
        parts.append(f"z of head{'' if len(of_set) == 1 else 's'} {heads} {what} at {where}")
    for edit in edits:
        if edit.site != "z":
            to = ", ".join(map(str, edit.attend_to or ()))
            parts.append(f"attention of head {edit.layer}.{edit.head} at position {edit.position} forced onto {to}")
    return "; ".join(parts)


def change_chart(
    change: wb.Outcome, model: Any, edited: EditedPrompt, edits: Sequence[Edit], subtitle: str, pairs: str = ""
) -> Chart:
    """Both distributions in one chart; `pairs` as for `source`."""
    table = change.table(TOP_TOKENS)
    after = table["after"].to_numpy()
    options = {
        "title": "Next token before and after the edits",
        "subtitle": subtitle,
        "scale": "probability",
        "bar_name": "after",
        "x_title": "next token",
        "reference": table["before"].to_numpy(),
        "reference_name": "before",
    }
    no_interval = np.full(len(after), np.nan)  # one prompt
    tokens = table["token"].tolist()
    return Chart(
        "bars",
        (after, no_interval, no_interval),
        ([visible(token) for token in tokens],),
        options,
        metadata={"edits": list(edits)},
        source=source(model, edited, edits, pairs),
        facts={"quantity": "probability of the next token"},
        data_labels=(tokens,),
    )
