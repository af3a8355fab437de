"""What the link says: each value under its own name, or where it is long, the hash of what is kept under another.

A run of the script gathers what it says and writes it once, at its end: every change of the link is one step of the
browser's way back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app import upload_store
from app.markdown import plain
from workbench.errors import BadInput

_HASH = "-input"
_SAID, _WRONG = "link-said", "link-wrong"


def names(key: str) -> tuple[str, str]:
    """What a value is called in the link: short, and long."""
    return key, key + _HASH


def given(key: str) -> str | None:
    """What the link says; None where that is nothing, or cannot be read (which is said)."""
    name = st.query_params.get(key + _HASH)
    if name is None:
        return st.query_params.get(key)
    try:
        return upload_store.kept(name).decode(errors="replace")
    except BadInput as error:
        wrong(str(error))
        return None


def wrong(text: str) -> None:
    """Say what is wrong with the link: above the page, in the run that draws it to its end."""
    st.session_state.setdefault(_WRONG, {})[text] = None


def went_back() -> bool:
    """Whether this run came of the browser's buttons: an earlier link is then right, and not what the widgets hold.

    A link that says nothing is none of ours: Streamlit makes one whenever the page is switched.
    """
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation and len(st.query_params) > 0


@contextmanager
def written() -> Iterator[None]:
    """A run: what is said in it becomes the link at its end, or is forgotten where it does not come to one."""
    st.session_state[_SAID] = {}
    above = st.container()
    yield
    for text in st.session_state.pop(_WRONG, {}):
        above.warning(plain(text))
    before = st.query_params.to_dict()
    after = {name: text for name, text in (before | st.session_state[_SAID]).items() if text is not None}
    if after != before:
        st.query_params.from_dict(after)


def follow(view: Any) -> None:
    """Show a page with what the link says."""
    st.switch_page(view, query_params=st.query_params.to_dict())


def say(key: str, text: str) -> None:
    """Put a value into the link; one that is too long for a page is left out of it."""
    short, long = names(key)
    if len(text) > upload_store.LONGEST_TEXT:
        leave(key)
        return
    fits = len(text) <= upload_store.LONGEST_IN_LINK
    st.session_state[_SAID] |= {short: text if fits else None, long: None if fits else upload_store.keep(text.encode())}


def leave(key: str) -> None:
    """Take a value out of the link."""
    st.session_state[_SAID] |= dict.fromkeys(names(key))
