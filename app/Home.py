"""The explorer's entry: the side bar, which every page shares, and the navigation over ``app/pages``.

Model, prompt and head stay in the URL when the page is switched, because their widgets are here.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from app import models, preparing, render_time, sidebar, url_state, url_widgets
from app.components.copy_link import copy_link
from app.components.history import one_step_per_page
from app.fragment import internal_errors_displayed
from app.messages import escape_markdown, show_errors
from app.page import PAGES, Page, first_page, pages, views
from app.work.ahead import AHEAD
from app.work.background import forget_displayed_jobs, job_queue, show_other_jobs
from workbench.errors import WorkbenchError
from workbench.models import catalog
from workbench.plotting import style

STYLE = Path(__file__).with_name("page.css")
#: Above the first page of a session that was opened without a link.
WELCOME = (
    "**Attention Workbench** shows what each attention head does: where it looks, what it writes, what changes without "
    "it."
)
_WELCOME = "welcome"
#: Session state: a page was opened already.
_OPENED = "page-opened"


def main() -> None:
    """Render the side bar and the page: first what needs no import of torch, then the page, and when that is there the
    worker process starts."""
    start = time.perf_counter()
    st.set_page_config(page_title="Attention Workbench", page_icon=_icon(), layout="wide")
    st.html(STYLE)
    one_step_per_page()
    copy_link()
    first, *others = views().values()
    first_by_name = st.Page(lambda: url_state.open_page(first), url_path=pages()[0].name, visibility="hidden")
    view = st.navigation([first, *others, first_by_name], position="top")
    with AHEAD.waiting(), url_state.update_url():
        page = next((page for page in pages() if page.title == view.title), None)
        welcomed = st.session_state.setdefault(_WELCOME, not st.query_params)
        _open_the_models_page(page, view is first)
        with st.sidebar:
            sidebar.widgets(models.available(), page.uses if page else sidebar.FIELDS, lambda: not _why_not(page))
        if welcomed:
            _show_welcome(page)
        forget_displayed_jobs()
        shows_model = _render(view, page)
        with st.sidebar:
            if page is not None and sidebar.OPERATORS in page.uses:
                _show_swap_notes()
            show_other_jobs()
            if page is not None and PAGES.is_imported(page.name):
                _show_help(PAGES[page.name])
    render_time.report(view.title, start)
    if shows_model:
        job_queue().warm(sidebar.own_model_name())


def _show_help(page: Page) -> None:
    if text := page.help_text(page.modalities[0] if page.modalities else ""):
        with st.expander(f"Help: {page.title}", icon=":material/help:"):
            st.markdown(text)


def _open_the_models_page(page: Page | None, is_first: bool) -> None:
    """Of a session that begins at the server's own address, which names no page: open the page for the model that is
    selected."""
    begins = not st.session_state.get(_OPENED)
    st.session_state[_OPENED] = True
    if not begins or not is_first or page is None:
        return
    names = models.available()
    name = url_widgets.current(sidebar.MODEL, names[0])
    opened = first_page(catalog.modality_of(name if name in names else names[0]))
    if opened.name != page.name:
        url_state.open_page(views()[opened.name])


def _show_welcome(page: Page | None) -> None:
    """What this is and what to click, until it is hidden."""
    with st.container(key=_WELCOME, horizontal=True, vertical_alignment="center"):
        first_steps = page.first_steps if page is not None and not _why_not(page) else ""
        st.info("  \n".join(filter(None, [WELCOME, first_steps])))
        hide = {"on_click": st.session_state.update, "args": ({_WELCOME: False},), "width": "content"}
        st.button("Hide", key="hide-welcome", **hide)


def _render(view: Any, page: Page | None) -> bool:
    """Render the page; whether it shows something of a model, to the end."""
    shows_model = False
    preparing.place_line()
    with internal_errors_displayed(view.title), show_errors():
        if page is not None and (why_not := _why_not(page)):
            _show_others(why_not)
            return False
        if page is not None:
            preparing.wait_for_imports(PAGES, page.name)
        view.run()
        shows_model = page is not None and bool(page.modalities)
    return shows_model


def _show_swap_notes() -> None:
    with suppress(WorkbenchError):  # the page shows it
        for note in models.swap_notes(sidebar.model_name()):
            st.caption(escape_markdown(note))


def _why_not(page: Page | None) -> str:
    name = sidebar.own_model_name()
    return page.why_not(name, catalog.modality_of(name)) if page is not None and page.modalities else ""


def _show_others(why_not: str) -> None:
    """Why the page is not rendered, and buttons that open those that are for the selected model."""
    modality = catalog.modality_of(sidebar.own_model_name())
    others = [page for page in pages() if modality in page.modalities]
    titles = " or ".join(page.title for page in others)
    st.info(
        escape_markdown(
            f"{why_not} {f'Open {titles}, or select' if others else 'Select'} another model in the side bar."
        )
    )
    with st.container(horizontal=True):
        for page in others:
            if st.button(f"Open {page.title}", key=f"open-{page.name}"):
                url_state.open_page(views()[page.name])


@cache
def _icon() -> Image.Image:
    """Three by three heads. Streamlit would fetch a named icon from another server."""
    shades = np.array([[0.2, 0.9, 0.4], [0.7, 0.3, 1.0], [0.5, 0.8, 0.1]])[..., None]
    colour = np.array([int(style.BAR[i : i + 2], 16) for i in (1, 3, 5)])
    return Image.fromarray(np.kron(255 + shades * (colour - 255), np.ones((16, 16, 1))).astype(np.uint8))
