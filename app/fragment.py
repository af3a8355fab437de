"""Pages that rerun alone: what is clicked on one renders it anew, without the side bar and the navigation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

import streamlit as st

from app import render_time, url_state
from app.messages import ErrorOnPage, show_error, show_errors
from app.work.ahead import AHEAD


def rerun_alone(title: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Decorates the `render` of a page that sets no value of the side bar: the page is then a fragment, which writes
    its own part of the URL, and shows its own errors and warnings.

    Raises:
        ErrorOnPage: in a run of the whole script, where the page is not rendered to its end.
    """

    def decorated(render: Callable[[], None]) -> Callable[[], None]:
        @st.fragment
        def page() -> bool:
            start, whole_script = time.perf_counter(), url_state.is_collecting()
            with AHEAD.waiting(), url_state.update_url(), internal_errors_displayed(title), show_errors():
                render()
                if not whole_script:
                    render_time.report(title, start)
                return True
            return False

        @wraps(render)
        def rendered() -> None:
            if not page():
                raise ErrorOnPage

        return rendered

    return decorated


@contextmanager
def internal_errors_displayed(title: str) -> Iterator[None]:
    """Show a bug in one line: the server's log has the traceback, and the page stays usable."""
    try:
        yield
    except Exception as error:
        render_time.LOG.exception("the page %s", title)
        show_error(f"Internal error ({type(error).__name__}). The traceback is in the terminal.")
