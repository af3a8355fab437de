"""A page's own texts, kept in the link and when pages are switched, in the manner of `app.options`; a long one is named
in the link by its hash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from app import inputs
from app.plain import plain
from workbench.errors import BadInput

#: Before a key, what it was when its widget was last drawn; behind it, the hash of a long text in the link.
_KEPT, _HASH = "kept-", "-input"


def area(label: str, key: str, first: str, **words: Any) -> str:
    """Several lines of text."""
    return _shown(st.text_area, label, key, first, max_chars=inputs.LONGEST_TEXT, **words)


def line(label: str, key: str, first: str, **words: Any) -> str:
    """One line of text."""
    return _shown(st.text_input, label, key, first, **words)


def put(key: str, text: str) -> None:
    """Set a text; for callbacks, which run before the widgets are made."""
    st.session_state[key] = st.session_state[_KEPT + key] = text


def leave(key: str) -> None:
    """Take a text that is not shown out of the link; it comes back when it is shown again."""
    for name in names(key):
        st.query_params.pop(name, None)


def names(key: str) -> tuple[str, str]:
    """What a text is called in the link: short, and long."""
    return key, key + _HASH


def _shown(widget: Callable[..., str], label: str, key: str, first: str, **words: Any) -> str:
    known = next((text for name in (key, _KEPT + key) if (text := st.session_state.get(name)) is not None), None)
    st.session_state[key] = _from_link(key, first) if known is None else known
    text = str(widget(label, key=key, **words))
    st.session_state[_KEPT + key] = text
    short = len(text) <= inputs.LONGEST_IN_LINK
    name, value = (key, text) if short else (key + _HASH, inputs.keep(text.encode()))
    if st.query_params.get(name) != value:
        st.query_params[name] = value
    st.query_params.pop(key + _HASH if short else key, None)
    return text


def _from_link(key: str, first: str) -> str:
    name = st.query_params.get(key + _HASH)
    if name is None:
        return st.query_params.get(key, first)
    try:
        return inputs.kept(name).decode(errors="replace")
    except BadInput as error:
        st.warning(plain(error))
        return first
