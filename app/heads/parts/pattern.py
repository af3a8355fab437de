"""The open head's pattern."""

from __future__ import annotations

from app.heads import detail
from app.heads.view import View
from app.part import RIGHT, Part

HELP = (
    "**Pattern**: each row is one destination position, its cells the attention weights on the source positions. "
    "*value-weighted* multiplies each weight by ‖v W_O‖, the size of what is moved."
)


def render(view: View) -> None:
    """The pattern with its downloads."""
    detail.show_pattern(view.selection)


part = Part("pattern", 10, RIGHT, render, help=HELP)
