"""What the link says: a value under its own name, or where it is long, the hash of what is kept under another."""

from __future__ import annotations

import streamlit as st

from app import inputs
from app.plain import plain
from workbench.errors import BadInput

_HASH = "-input"


def names(key: str) -> tuple[str, str]:
    """What a value is called in the link: short, and long."""
    return key, key + _HASH


def given(key: str) -> str | None:
    """What the link says; None where that is nothing, or cannot be read (a line says why)."""
    name = st.query_params.get(key + _HASH)
    if name is None:
        return st.query_params.get(key)
    try:
        return inputs.kept(name).decode(errors="replace")
    except BadInput as error:
        st.warning(plain(error))
        return None


def say(key: str, text: str) -> None:
    """Put a value into the link."""
    short, long = names(key)
    if len(text) <= inputs.LONGEST_IN_LINK:
        wanted, other = (short, text), long
    else:
        wanted, other = (long, inputs.keep(text.encode())), short
    if st.query_params.get(wanted[0]) != wanted[1]:
        st.query_params[wanted[0]] = wanted[1]
    st.query_params.pop(other, None)


def leave(key: str) -> None:
    """Take a value out of the link."""
    for name in names(key):
        st.query_params.pop(name, None)
