"""What is chosen for all pages: a model, a prompt and a head. Each lives in the link under its own name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import inputs
from workbench.errors import BadInput, UsageError
from workbench.vocabulary import Head

MODEL, PROMPT, INPUT, HEAD = "model", "prompt", "input", "head"
#: An IOI prompt: there is something to see in it.
FIRST = "When Mary and John went to the store, John gave a drink to"
#: Tokens of a prompt at most: the page holds one layer's patterns at a time.
LONGEST = 1_024
_HEAD = re.compile(r"(\d{1,4})\.(\d{1,4})")


def widgets(names: Sequence[str]) -> None:
    """The side bar, and the link.

    The link is written here and not by the widgets (``bind=``): those leave out what they begin with, so that a copied
    link would mean something else where another model is the first.
    """
    if st.query_params.get(MODEL) not in (None, *names):
        st.warning(f"The link names a model that is not here; showing {names[0]}.")
        st.query_params.pop(MODEL)
    for name, first in ((MODEL, names[0]), (HEAD, "0.0")):
        if name not in st.session_state:
            st.session_state[name] = st.query_params.get(name, first)
    if PROMPT not in st.session_state:
        st.session_state[PROMPT] = _from_link()
    st.selectbox("Model", names, key=MODEL)
    st.text_area("Prompt", key=PROMPT, height=140, max_chars=inputs.LONGEST_TEXT)
    st.text_input("Head", key=HEAD, help="layer.head, such as 23.3")
    _into_link(st.session_state[PROMPT])
    for name in (MODEL, HEAD):
        if st.query_params.get(name) != st.session_state[name]:
            st.query_params[name] = st.session_state[name]


def _from_link() -> str:
    name = st.query_params.get(INPUT)
    if name is None:
        return st.query_params.get(PROMPT, FIRST)
    try:
        return inputs.kept(name).decode(errors="replace")
    except BadInput as error:
        st.warning(str(error))
        return FIRST


def _into_link(text: str) -> None:
    if len(text) <= inputs.LONGEST_IN_LINK:
        wanted, other = (PROMPT, text), INPUT
    else:
        wanted, other = (INPUT, inputs.keep(text.encode())), PROMPT
    if st.query_params.get(wanted[0]) != wanted[1]:
        st.query_params[wanted[0]] = wanted[1]
    st.query_params.pop(other, None)


def model_name() -> str:
    """The chosen model."""
    return str(st.session_state[MODEL])


def prompt() -> str:
    """The chosen text."""
    return str(st.session_state[PROMPT])


def ids(model: Any) -> list[int]:
    """The prompt's tokens.

    Raises:
        UsageError: there are none, or too many.
    """
    text = prompt()
    found = model.to_tokens(text)[0].tolist() if text else []
    if not found:
        raise UsageError("The prompt is empty: type something on the left.")
    longest = min(LONGEST, model.cfg.n_ctx or LONGEST)
    if len(found) > longest:
        raise UsageError(f"The prompt has {len(found)} tokens, and at most {longest} are shown: shorten it.")
    return found


def head(model: Any) -> Head:
    """The chosen head; the nearest there is where a link names one that this model does not have."""
    given = _HEAD.fullmatch(str(st.session_state[HEAD]).strip())
    if given is None:
        raise UsageError(f"Head {st.session_state[HEAD]!r}: give layer.head, such as 3.1.")
    layer, index = map(int, given.groups())
    return Head(min(layer, model.n_layers - 1), min(index, model.n_heads - 1))


def choose(picked: Head) -> None:
    """Make a head the chosen one; for callbacks, which run before the widgets are made."""
    st.session_state[HEAD] = str(picked)
