"""The side bar: the model, prompt and head that pages share. Each is URL state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from app import upload_store, url_state, url_widgets
from app.swapped_names import EXAMPLE, swapped_name
from workbench.core import Head, example_head, parse_head, written_both_ways
from workbench.errors import UsageError
from workbench.registry import OPERATORS as REGISTERED

FIELDS = MODEL, OPERATORS, PROMPT, HEAD = "model", "operators", "prompt", "head"
#: What a page needs that has a box for the head of its own.
INPUT = (MODEL, OPERATORS, PROMPT)
#: An IOI prompt with surnames: four tokens occur twice, and what followed one of them follows again at the end. The
#: heads that are first in induction, previous and duplicate token here are among the first on repeated random tokens.
DEFAULT_PROMPT = "When Mary Smith and John Brown went to the store, John Brown gave a drink to Mary"
#: Tokens of a prompt at most: the page holds one layer's patterns at a time.
MAX_TOKENS = 1_024
#: Characters of the operators at most.
MAX_OPERATORS = 400
MODEL_HELP = "Models on this machine, and those that `workbench explore --model` names."
PROMPT_HELP = (
    f"The text that the model reads, of at most {MAX_TOKENS:,} tokens. Ctrl+Enter, or a click elsewhere, runs it."
)
HEAD_HELP = f"layer.head, such as {written_both_ways(example_head())}"
_SUGGESTED = "head-suggested"


def widgets(names: Sequence[str], uses: Sequence[str] = FIELDS, fits: Callable[[], bool] = lambda: True) -> None:
    """The side bar.

    Args:
        names: of the models that can be selected.
        uses: the fields that the page depends on; the others keep their values, and are not shown.
        fits: whether the page is for the model that is selected; where it is not only the model is shown.
    """
    if not uses:
        st.caption("This page depends on no model and no prompt.")
    if MODEL in uses:
        url_widgets.select("Model", names, MODEL, help=MODEL_HELP)
    if not fits():
        return
    if OPERATORS in uses:
        _operators()
    if PROMPT in uses:
        prompt_widget()
    if HEAD in uses:
        head_widget()


def prompt_widget() -> None:
    """The box that holds the prompt: in the side bar, or in a part that reads it."""
    url_widgets.area("Prompt", PROMPT, DEFAULT_PROMPT, height=140, help=PROMPT_HELP)


def head_widget() -> None:
    """The box that holds the open head: in the side bar, or on a page that reruns alone."""
    if (head := st.session_state.pop(_SUGGESTED, None)) is not None:
        select_head(head)
    url_widgets.line("Head", HEAD, "", help=HEAD_HELP, placeholder=str(example_head()))


def _operators() -> None:
    help_text = (
        f"Attention operators swapped into layers: LAYERS=OPERATOR, such as {EXAMPLE}. Layers are 4, 10-19, 1,3,5 or "
        f"all. Operators: {', '.join(REGISTERED.names())}."
    )
    url_widgets.line("Operators", OPERATORS, "", help=help_text, placeholder=EXAMPLE, max_chars=MAX_OPERATORS)


def suggest_head(head: Callable[[], Head | None]) -> None:
    """Select an interesting head where the box is empty, because neither the URL nor the user has selected one, and
    rerun the page."""
    if not url_widgets.current(HEAD, "").strip() and (suggested := head()) is not None:
        select_and_rerun(suggested)


def select_and_rerun(head: Head) -> None:
    """Select a head while the page is rendered, and render it again."""
    st.session_state[_SUGGESTED] = head  # so that the box, which is made already, shows it, too
    st.rerun()


def model_name() -> str:
    """The selected model, with the operators that are swapped into it.

    Raises:
        UnknownName, UsageError: operators that cannot be read.
    """
    return swapped_name(own_model_name(), url_widgets.current(OPERATORS, ""))


def own_model_name() -> str:
    """The selected model's own name."""
    return url_widgets.current(MODEL, "")


def prompt() -> str:
    """The prompt."""
    return url_widgets.current(PROMPT, DEFAULT_PROMPT)


def token_ids(model: Any, text: str | None = None, label: str = "Prompt") -> list[int]:
    """The token ids of the prompt, or of another text.

    Raises:
        UsageError: there are none, or too many.
    """
    text = prompt() if text is None else text
    if len(text) > upload_store.MAX_CHARACTERS:
        limit = upload_store.MAX_CHARACTERS
        raise UsageError(f"{label}: {len(text):,} characters, and the limit is {limit:,}. Shorten it.")
    ids = model.to_tokens(text)[0].tolist() if text else []
    if not ids:
        raise UsageError(f"{label}: it is empty. Type some text.")
    limit = min(MAX_TOKENS, model.cfg.n_ctx or MAX_TOKENS)
    if len(ids) > limit:
        raise UsageError(f"{label}: {len(ids)} tokens, and the limit is {limit}. Shorten it.")
    return ids


def selected_head(model: Any) -> Head:
    """The selected head, 0.0 where there is none; where this model does not have it the nearest one, and where the box
    holds something else 0.0, with a warning."""
    text = url_widgets.current(HEAD, "")
    if not text.strip():
        return Head(0, 0)
    try:
        requested = parse_head("Head", text)
    except UsageError as error:
        url_state.warn(f"{error} Showing {Head(0, 0)}.")
        select_and_rerun(Head(0, 0))
        raise
    nearest = nearest_head(model, requested)
    if nearest != requested:
        url_state.warn(f"This model has no head {requested}. Showing {nearest}.")
    if str(nearest) != text:
        select_and_rerun(nearest)
    return nearest


def nearest_head(model: Any, head: Head) -> Head:
    """That head, or the nearest one that this model has."""
    return Head(min(max(head.layer, 0), model.n_layers - 1), min(max(head.index, 0), model.n_heads - 1))


def select_head(head: Head) -> None:
    """Select a head; for callbacks, which run before the widgets are made."""
    url_widgets.set_value(HEAD, str(head))
