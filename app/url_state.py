"""URL state: each value has a query parameter, or, where it is long, the hash of an upload that holds it.

A run of the script collects its parameters and writes them once, at its end: every change of the URL is one step of the
browser's history.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app import upload_store
from app.messages import escape_markdown
from workbench.errors import BadInput

_HASH_SUFFIX = "-input"
#: What messages call a value that is too long for the URL.
_WHAT = {"prompt": "a long prompt", "prompt2": "a long second prompt"}
_WARNINGS, _WRITTEN = "url-warnings", "url-written"
#: The parameters that this run of the script has set so far; None where nothing collects them.
_pending: ContextVar[dict[str, str | None] | None] = ContextVar("pending", default=None)


def param_names(key: str) -> tuple[str, str]:
    """The two parameters of a value: one holds the value itself, the other the hash of a long one."""
    return key, key + _HASH_SUFFIX


def get_param(key: str) -> str | None:
    """The value in the URL; None where there is none, or where it cannot be read (a warning says why)."""
    name = st.query_params.get(key + _HASH_SUFFIX)
    if name is None:
        return st.query_params.get(key)
    try:
        return upload_store.load(name, _WHAT.get(key, f"a long text for {key!r}")).decode(errors="replace")
    except BadInput as error:
        warn(str(error))
        return None


def set_param(key: str, text: str) -> None:
    """Put a value into the URL; one that no page accepts, because it is too long, is left out."""
    value_param, hash_param = param_names(key)
    if len(text) > upload_store.MAX_CHARACTERS:
        remove_param(key)
        return
    fits = len(text) <= upload_store.MAX_IN_URL
    digest = None if fits else upload_store.save(text.encode())
    _collected().update({value_param: text if fits else None, hash_param: digest})


def remove_param(key: str) -> None:
    """Take a value out of the URL."""
    _collected().update(dict.fromkeys(param_names(key)))


def _collected() -> dict[str, str | None]:
    pending = _pending.get()
    assert pending is not None, "parameters are set within update_url()"
    return pending


def warn(text: str) -> None:
    """Show what is wrong with the URL, above the page, in the run that renders it to its end."""
    st.session_state.setdefault(_WARNINGS, {})[text] = None


def navigated_back() -> bool:
    """Whether the browser's back or forward button started this run: then the URL is right, and the widgets are not.

    An empty URL does not count: Streamlit makes one whenever the page is switched.
    """
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation and len(st.query_params) > 0


def is_collecting() -> bool:
    """Whether this is within `update_url`."""
    return _pending.get() is not None


@contextmanager
def update_url() -> Iterator[None]:
    """Collect the parameters that are set in this block and write the URL at its end, or at the end of the outermost of
    several blocks; warnings are shown above each.

    A run that Streamlit interrupts leaves the URL as it was.
    """
    above, outermost = st.container(), not is_collecting()
    token = _pending.set({}) if outermost else None
    try:
        yield
        for text in st.session_state.pop(_WARNINGS, {}):
            above.warning(escape_markdown(text))
        if outermost:
            _write(_collected())
    finally:
        if token is not None:
            _pending.reset(token)


def _write(collected: dict[str, str | None]) -> None:
    before = st.query_params.to_dict()
    after = {name: text for name, text in (before | collected).items() if text is not None}
    # A click that came before the browser had the URL of the run before was sent with the one before that.
    if after != before or after != st.session_state.get(_WRITTEN, after):
        st.query_params.from_dict(after)
    st.session_state[_WRITTEN] = after


def open_page(view: Any) -> None:
    """Switch to a page and keep the URL's parameters."""
    st.switch_page(view, query_params=st.query_params.to_dict())
