"""The second side of a comparison: another prompt, another head or another model, from widgets and the URL."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from app import models, sidebar, url_state, url_widgets
from app.heads.records import prompt_record
from app.heads.score import why_nothing_is_similar
from app.heads.selection import Selection
from app.messages import escape_markdown
from workbench.core import Head, example_head, parse_head, written_both_ways
from workbench.errors import UsageError
from workbench.head_scores.ranking import ranked

PROMPT, HEAD, MODEL = "prompt", "head", "model"
KINDS = [PROMPT, HEAD, MODEL]
#: The default prompt with the names of its second half exchanged: the other surname follows.
DEFAULT_SECOND_PROMPT = "When Mary Smith and John Brown went to the store, Mary Smith gave a drink to John"
#: Parameters of the URL.
_PROMPT, _HEAD, _MODEL, _KIND = "prompt2", "head2", "model2", "differs"


def second_selection(first: Selection, kind: str) -> Selection:
    """The other side, by its widget.

    Args:
        kind: one of `KINDS`: what differs.

    Raises:
        UsageError: an empty or too long prompt, no head, or no other model on this machine.
    """
    for key, other_kind in ((_PROMPT, PROMPT), (_HEAD, HEAD), (_MODEL, MODEL)):
        if other_kind != kind:
            url_state.remove_param(key)
    if kind == PROMPT:
        text = url_widgets.area("Second prompt", _PROMPT, DEFAULT_SECOND_PROMPT, height=80)
        ids = sidebar.token_ids(first.model, text, "Second prompt")
        return replace(first, label="second", record=prompt_record(first.model_name, ids))
    if kind == HEAD:
        default = _most_similar_head(first)
        if default is None:
            why = why_nothing_is_similar(first.record, first.head)
            st.caption(escape_markdown(f"No head’s pattern is compared with that of {first.head}: {why}"))
            default = Head(first.head.layer, (first.head.index + 1) % first.model.n_heads)
        example = example_head(first.model.n_layers, first.model.n_heads)
        help_text = f"layer.head, such as {written_both_ways(example)}"
        text = url_widgets.line("Second head", _HEAD, str(default), help=help_text, max_chars=9)
        return replace(first, label="second", head=sidebar.nearest_head(first.model, parse_head("Second head", text)))
    others = [name for name in models.available() if name != first.model_name]
    if not others:
        raise UsageError("There is no second model on this machine. Fetch one: workbench models fetch NAME.")
    name = url_widgets.select("Second model", others, _MODEL)
    model = models.load(name)
    record = prompt_record(name, sidebar.token_ids(model))
    return Selection("second", name, model, record, sidebar.nearest_head(model, first.head))


def second_prompt() -> str:
    """The second prompt, as its widget has it."""
    return url_widgets.current(_PROMPT, DEFAULT_SECOND_PROMPT)


def select_second_head(head: Head) -> None:
    """Select the second head; for callbacks."""
    url_widgets.set_value(_HEAD, str(head))


def remove_params() -> None:
    """Nothing is compared: take the comparison out of the URL."""
    for key in (_PROMPT, _HEAD, _MODEL, _KIND):
        url_state.remove_param(key)


def comparison_kind() -> str:
    """The widget that says what differs."""
    return url_widgets.segments("What differs", KINDS, _KIND)


def same_shape(first: Selection, second: Selection) -> bool:
    """Whether the two models have equally many layers and heads."""
    return (first.model.n_layers, first.model.n_heads) == (second.model.n_layers, second.model.n_heads)


def _most_similar_head(first: Selection) -> Head | None:
    """The head with the most similar pattern; None where no head has a similarity."""
    heads = ranked(first.record.similarity(first.head))["head"]
    return Head.parse(str(heads.iloc[0])) if len(heads) else None
