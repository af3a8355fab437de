"""The explorer's entry: the widgets that every page shares, and the navigation over ``app/pages``.

Model, prompt and head live in the link, and stay in it when the page is switched, because their widgets are here.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from app import models, render_time, sidebar, url_state
from app.markdown import guarded, plain
from app.page import pages, views
from app.work.background import jobs, others
from workbench.plotting import style

#: Streamlit leaves a hand's breadth above each page, writes how long a text is over the text's last line, and cuts what
#: is chosen in a list of several where it is long.
STYLE = """
.stMainBlockContainer { padding-top: 4rem; padding-bottom: 2rem; }
[data-testid=stTextArea] [data-testid=InputInstructions] { top: 0; bottom: auto; right: 0; }
[data-testid=stMultiSelectTagsContainer] > span > span { height: auto; }
[data-testid=stMultiSelectTagsContainer] > span > span > span { white-space: normal; }
"""


def main() -> None:
    """Draw the side bar and the page."""
    began = time.perf_counter()
    st.set_page_config(page_title="Attention Workbench", page_icon=_icon(), layout="wide")
    st.html(f"<style>{STYLE}</style>")
    first, *further = views().values()
    named = st.Page(lambda: url_state.follow(first), url_path=pages()[0].name, visibility="hidden")
    view = st.navigation([first, *further, named], position="top")
    jobs()  # the worker gets ready while the first page is read
    with url_state.written():
        with st.sidebar:
            sidebar.widgets(models.available())
        _draw(view)
        with st.sidebar:
            others()
    render_time.drawn(view.title, began)


def _draw(view: Any) -> None:
    try:
        with guarded():
            view.run()
    except Exception as error:  # a fault of ours: the server's log says where, the page stays usable
        render_time.LOG.exception("the page %s", view.title)
        st.error(plain(f"A fault of ours ({type(error).__name__}): the explorer’s terminal shows where."))


@cache
def _icon() -> Image.Image:
    """Three by three heads. Streamlit would fetch a named icon from a server elsewhere."""
    shades = np.array([[0.2, 0.9, 0.4], [0.7, 0.3, 1.0], [0.5, 0.8, 0.1]])[..., None]
    colour = np.array([int(style.BAR[i : i + 2], 16) for i in (1, 3, 5)])
    return Image.fromarray(np.kron(255 + shades * (colour - 255), np.ones((16, 16, 1))).astype(np.uint8))
