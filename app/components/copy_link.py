"""A button that copies the address of what is shown: the URL stores the whole view."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from streamlit.components.v2 import component

FOLDER = Path(__file__).parent


def copy_link() -> None:
    """The button, at the right end of the header. The server takes no part in it."""
    _component()(key="copy-link")


@cache
def _component() -> Any:
    html, css, js = ((FOLDER / f"copy_link.{ending}").read_text(encoding="utf-8") for ending in ("html", "css", "js"))
    return component("workbench_copy_link", html=html, css=css, js=js)
