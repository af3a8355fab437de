"""The explorer's entry: the side bar, which every page shares, and the navigation over ``app/pages``.

Model, prompt and head stay in the URL when the page is switched, because their widgets are here.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from app import models, render_time, sidebar, url_state
from app.messages import escape_markdown, show_error, show_errors
from app.page import pages, views
from app.work.background import job_queue, show_other_jobs
from workbench.errors import WorkbenchError
from workbench.models import catalog
from workbench.plotting import style

#: Streamlit leaves a wide margin above each page, puts the length of a text over the text's last line, and cuts long
#: options of a list of several.
STYLE = """
.stMainBlockContainer { padding-top: 4rem; padding-bottom: 2rem; }
[data-testid=stTextArea] [data-testid=InputInstructions] { top: 0; bottom: auto; right: 0; }
[data-testid=stMultiSelectTagsContainer] > span > span { height: auto; }
[data-testid=stMultiSelectTagsContainer] > span > span > span { white-space: normal; }
"""


def main() -> None:
    """Render the side bar and the page."""
    start = time.perf_counter()
    st.set_page_config(page_title="Attention Workbench", page_icon=_icon(), layout="wide")
    st.html(f"<style>{STYLE}</style>")
    first, *others = views().values()
    first_by_name = st.Page(lambda: url_state.open_page(first), url_path=pages()[0].name, visibility="hidden")
    view = st.navigation([first, *others, first_by_name], position="top")
    job_queue()  # the worker starts while the first page is read
    with url_state.update_url():
        with st.sidebar:
            sidebar.widgets(models.available())
        _render(view)
        with st.sidebar:
            _show_swap_notes()
            show_other_jobs()
    render_time.report(view.title, start)


def _render(view: Any) -> None:
    try:
        with show_errors():
            if why_not := _why_not(view):
                st.info(f"{escape_markdown(why_not)} Select another model in the side bar, or another page.")
            else:
                view.run()
    except Exception as error:  # a bug: the server's log has the traceback, and the page stays usable
        render_time.LOG.exception("the page %s", view.title)
        show_error(f"Internal error ({type(error).__name__}). The traceback is in the terminal.")


def _show_swap_notes() -> None:
    with suppress(WorkbenchError):  # the page shows it
        for note in models.swap_notes(sidebar.model_name()):
            st.caption(escape_markdown(note))


def _why_not(view: Any) -> str:
    name = sidebar.own_model_name()
    page = next((page for page in pages() if page.title == view.title), None)  # a hidden page redirects to the first
    return "" if page is None else page.why_not(name, catalog.modality_of(name))


@cache
def _icon() -> Image.Image:
    """Three by three heads. Streamlit would fetch a named icon from another server."""
    shades = np.array([[0.2, 0.9, 0.4], [0.7, 0.3, 1.0], [0.5, 0.8, 0.1]])[..., None]
    colour = np.array([int(style.BAR[i : i + 2], 16) for i in (1, 3, 5)])
    return Image.fromarray(np.kron(255 + shades * (colour - 255), np.ones((16, 16, 1))).astype(np.uint8))
