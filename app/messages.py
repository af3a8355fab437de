"""Text from outside and errors, as a page shows them: Streamlit reads Markdown in most of what it writes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from workbench.errors import WorkbenchError

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|$~:<>&])")


def escape_markdown(text: object) -> str:
    """The text with every character escaped that has a meaning in Markdown (links, images, colours, formulas)."""
    return _MARKDOWN.sub(r"\\\1", str(text))


class Notice(Exception):
    """Not an error: a line in place of a part of a page, or of all of it."""


class ErrorOnPage(Exception):
    """A page that was not rendered to its end, and says why."""


def show_error(error: object) -> None:
    """One line of plain text in a red box."""
    st.error(escape_markdown(error), icon=":material/error:")


@contextmanager
def show_errors() -> Iterator[None]:
    """Show a `WorkbenchError` of this part of a page in one line; the rest of the page is still rendered."""
    try:
        yield
    except Notice as notice:
        st.info(escape_markdown(notice))
    except WorkbenchError as error:
        show_error(error)
    except ErrorOnPage:
        pass
