"""A component from its files ``NAME.html``, ``NAME.css`` and ``NAME.js``. Figures have one style for caption, note and
focus, ``figure.css``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from streamlit.components.v2 import component

FOLDER = Path(__file__).parent


@cache
def load_component(name: str, shared_js: str = "") -> Any:
    """The component of those files.

    Args:
        shared_js: a file whose functions its script calls.
    """
    html, css, js = (_read(f"{name}.{ending}") for ending in ("html", "css", "js"))
    if html.startswith("<figure"):
        css = _read("figure.css") + css
    return component(f"workbench_{name}", html=html, css=css, js=(_read(shared_js) if shared_js else "") + js)


def _read(file: str) -> str:
    return (FOLDER / file).read_text(encoding="utf-8")
