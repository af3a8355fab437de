"""Texts from outside, shown as they are: Streamlit reads Markdown in most of what it writes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from workbench.errors import WorkbenchError

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|$~:<>&])")


def plain(text: object) -> str:
    """The text with everything escaped that Markdown gives a meaning to (links, pictures, colours, formulas)."""
    return _SPECIAL.sub(r"\\\1", str(text))


@contextmanager
def guarded() -> Iterator[None]:
    """A part of a page: what is wrong in it is said in one line, and the rest of the page is drawn."""
    try:
        yield
    except WorkbenchError as error:
        st.error(plain(error), icon=":material/error:")
