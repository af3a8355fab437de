"""The browser scrolls to a part of the page that was asked for on another one."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

from streamlit.components.v2 import component


def scroll_to(selector: str) -> None:
    """Scroll to the element of a CSS selector once it is there."""
    _component()(data={"selector": selector, "number": time.monotonic_ns() % 2**50}, key="scroll-to")


@cache
def _component() -> Any:
    return component("workbench_scroll_to", js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"))
