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

import ast
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from app.part import Part, parts
from workbench.registry import Registry, written_arguments


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
        first_steps: what to click first, for a first visit; empty for nothing.
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
    first_steps: str = ""

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


#: What is known of a page that is imported.
_IMPORTED_ONLY = ("render", "help", "parts")


def pages() -> list[Page]:
    """Every page of the registry, in order, without its help and its parts. The files are read, and each is imported
    when it is rendered first, so that the frame of the explorer waits for no import."""
    return sorted(map(_page, PAGES.names()), key=lambda page: page.order)


def _page(name: str) -> Page:
    path = PAGES.path(name)
    return _read(path, path.stat().st_mtime_ns, name) or PAGES[name]


@cache
def _read(path: Path, _changed: int, name: str) -> Page | None:
    """A page as its file writes it; None where that has to be imported to be known."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        by_place, by_name = written_arguments(tree, "page") or ([], {})
        written = inspect.signature(Page).bind(*by_place, **by_name).arguments
        values = {key: _value(node, tree) for key, node in written.items() if key not in _IMPORTED_ONLY}
    except (AttributeError, KeyError, SyntaxError, TypeError, ValueError):
        return None
    return Page(**values, render=lambda: PAGES[name].render()) if values["name"] == name else None


def _value(node: ast.expr, tree: ast.Module) -> Any:
    """A value that is written out, or is in a module that is imported before any page (``sidebar.HEAD``)."""
    if isinstance(node, ast.Tuple):
        return tuple(_value(item, tree) for item in node.elts)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module, imports = node.value.id, [x for x in tree.body if isinstance(x, ast.ImportFrom)]
        (package,) = {x.module for x in imports if module in [alias.name for alias in x.names if not alias.asname]}
        return getattr(sys.modules[f"{package}.{module}"], node.attr)
    return ast.literal_eval(node)


def first_page(modality: str) -> Page:
    """The page that a session opens on with a model of that modality: the first that is for such models."""
    return next((page for page in pages() if modality in page.modalities), pages()[0])


def views() -> dict[str, Any]:
    """Streamlit's pages, by name. The first is at the server's own address: its path is never shown."""
    by_name: dict[str, Any] = {}
    for page in pages():
        path = page.name if by_name else "first"
        icon = f":material/{page.icon}:"
        by_name[page.name] = st.Page(page.render, title=page.title, icon=icon, url_path=path, default=not by_name)
    return by_name
