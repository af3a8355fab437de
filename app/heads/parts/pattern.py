"""The open head's pattern."""

from __future__ import annotations

from app.heads import detail
from app.heads.view import View
from app.part import RIGHT, Part

HELP = (
    "**Pattern**: a row per destination, a cell per source. Click a cell to ask about the pair, drag to zoom in; a "
    "long prompt’s shows the largest weight of each block. *value-weighted*: times ‖v W_O‖, the size of what is moved."
)


def render(view: View) -> None:
    """The pattern with its downloads."""
    detail.show_pattern(view.selection, view.asking)


part = Part("pattern", 10, RIGHT, render, help=HELP)
