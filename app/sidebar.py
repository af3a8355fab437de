"""What is chosen for all pages: a model, a prompt and a head. Each lives in the link under its own name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from app import upload_store, url_state, url_widgets
from workbench.core import Head
from workbench.errors import UsageError

MODEL, PROMPT, HEAD = "model", "prompt", "head"
#: An IOI prompt: there is something to see in it.
FIRST = "When Mary and John went to the store, John gave a drink to"
#: Tokens of a prompt at most: the page holds one layer's patterns at a time.
LONGEST = 1_024
#: The head of a page that nobody has chosen one for.
_NONE = "0.0"
_OPEN, _SUGGESTED = "head-open", "head-suggested"
_HEAD = re.compile(r"(\d{1,4})\.(\d{1,4})")


def widgets(names: Sequence[str]) -> None:
    """The side bar."""
    if _OPEN not in st.session_state:
        st.session_state[_OPEN] = url_state.given(HEAD) is None and url_state.given(MODEL) in (None, *names)
    if (head := st.session_state.pop(_SUGGESTED, None)) is not None:
        choose(head)
    url_widgets.select("Model", names, MODEL)
    url_widgets.area("Prompt", PROMPT, FIRST, height=140)
    url_widgets.line("Head", HEAD, _NONE, help="layer.head, such as 23.3")


def suggest(head: Callable[[], Head]) -> None:
    """Choose a head worth seeing where neither the link nor anybody has chosen one; the page is then drawn anew."""
    if st.session_state[_OPEN] and st.session_state[HEAD] == _NONE:
        st.session_state[_OPEN] = False
        st.session_state[_SUGGESTED] = head()
        st.rerun()


def model_name() -> str:
    """The chosen model."""
    return str(st.session_state[MODEL])


def prompt() -> str:
    """The chosen text."""
    return str(st.session_state[PROMPT])


def ids(model: Any, text: str | None = None, what: str = "The prompt") -> list[int]:
    """The tokens of the chosen prompt, or of another text.

    Raises:
        UsageError: there are none, or too many.
    """
    text = prompt() if text is None else text
    if len(text) > upload_store.LONGEST_TEXT:
        raise UsageError(
            f"{what} has {len(text):,} characters, and at most {upload_store.LONGEST_TEXT:,} are taken: shorten it."
        )
    found = model.to_tokens(text)[0].tolist() if text else []
    if not found:
        raise UsageError(f"{what} is empty: type something.")
    longest = min(LONGEST, model.cfg.n_ctx or LONGEST)
    if len(found) > longest:
        raise UsageError(f"{what} has {len(found)} tokens, and at most {longest} are shown: shorten it.")
    return found


def head(model: Any) -> Head:
    """The chosen head; the nearest there is where a link names one that this model does not have."""
    given = _HEAD.fullmatch(str(st.session_state[HEAD]).strip())
    if given is None:
        raise UsageError(f"Head {st.session_state[HEAD]!r}: give layer.head, such as 3.1.")
    asked = Head(*map(int, given.groups()))
    found = Head(min(asked.layer, model.n_layers - 1), min(asked.index, model.n_heads - 1))
    if found != asked:
        st.warning(f"There is no head {asked} in this model; showing {found}.")
    return found


def choose(picked: Head) -> None:
    """Make a head the chosen one; for callbacks, which run before the widgets are made."""
    url_widgets.put(HEAD, str(picked))
    st.session_state[_OPEN] = False
