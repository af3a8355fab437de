"""The browser's history: a page that is opened is one step of it, with the values that its script fills in."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from streamlit.components.v2 import component


def one_step_per_page() -> None:
    """Called in every run of the script; the browser runs it once."""
    _component()(key="history")


@cache
def _component() -> Any:
    script = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    return component("workbench_history", js=script)
