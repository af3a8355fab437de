"""A page of the explorer: each file in ``app/pages`` ends in ``page = Page(...)``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from workbench.registry import Registry


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        name: as in the link (``heads``).
        title, icon: in the navigation; the icon is a Material symbol's name.
        order: pages are listed by it.
        render: draws the page; called in every run of the script while the page is open.
    """

    name: str
    title: str
    icon: str
    order: int
    render: Callable[[], None]


PAGES: Registry[Page] = Registry("app.pages", "page")


def pages() -> list[Page]:
    """Every page of the registry, in order."""
    return sorted((PAGES[name] for name in PAGES.names()), key=lambda page: page.order)


def views() -> dict[str, Any]:
    """Streamlit's pages, by name. The first is shown at the server's own address: its path is never seen."""
    found = {}
    for page in pages():
        path = page.name if found else "first"
        icon = f":material/{page.icon}:"
        found[page.name] = st.Page(page.render, title=page.title, icon=icon, url_path=path, default=not found)
    return found
