"""A page of the explorer: each file in ``app/pages`` ends in ``page = Page(...)``.

``app/pages/my_page.py``, which shows the figures of the newest run of a finding with their downloads::

    from app.page import Page
    from app.run_figure import newest_run, show_run_figures


    def render() -> None:
        run = newest_run("circuit-reuse")
        if run is not None:
            show_run_figures(run, "my-figure")


    page = Page("my-page", "My page", "bar_chart", 10, render)

Widgets come from `app.url_widgets`, which keeps their values in the URL; charts and their
downloads from `app.downloadable`. The tests render every page on a machine without runs and on one with a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.part import Part, parts
from workbench.registry import Registry


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        name: as in the URL (``heads``).
        title, icon: in the navigation; the icon is the name of a Material symbol.
        order: pages are listed by it.
        modalities: of the models that the page is about; empty for every one, or where it is about none.
        render: renders the page; called in every run of the script while the page is open.
        uses: values of the side bar that the page depends on (`app.sidebar.FIELDS`); it shows no others.
        help: what its controls do, in Markdown, for the help panel; the help of its parts follows.
        parts: the registry of its parts, see `app.part`.
    """

    name: str
    title: str
    icon: str
    order: int
    render: Callable[[], None]
    modalities: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    help: str = ""
    parts: Registry[Part[Any]] | None = None

    def why_not(self, model: str, modality: str) -> str:
        """Why the page cannot be rendered for a model of that name and modality; empty where it can."""
        if not self.modalities or modality in self.modalities:
            return ""
        return f"This page is for {' and '.join(self.modalities)} models, and {model} is a {modality} model."

    def help_text(self, modality: str) -> str:
        """The help on the page and on its parts for models of a modality, in Markdown."""
        some = parts(self.parts, modality) if self.parts is not None else []
        return "\n\n".join(filter(None, [self.help, *(part.help for part in some)]))


#: The pages, by name.
PAGES: Registry[Page] = Registry("app.pages", "page")


def pages() -> list[Page]:
    """Every page of the registry, in order."""
    return sorted((PAGES[name] for name in PAGES.names()), key=lambda page: page.order)


def views() -> dict[str, Any]:
    """Streamlit's pages, by name. The first is at the server's own address: its path is never shown."""
    by_name: dict[str, Any] = {}
    for page in pages():
        path = page.name if by_name else "first"
        icon = f":material/{page.icon}:"
        by_name[page.name] = st.Page(page.render, title=page.title, icon=icon, url_path=path, default=not by_name)
    return by_name
