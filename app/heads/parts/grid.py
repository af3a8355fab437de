"""The grid: the selected score of every head; a click opens a head."""

from __future__ import annotations

from app import sidebar
from app.heads import score_grid
from app.heads.view import View
from app.part import LEFT, Part

HELP = "**Grid**: one cell per head, coloured by the selected score. Click a cell, or move with the arrow keys."


def render(view: View) -> None:
    """The grid and its downloads."""
    selection, name = view.selection, view.score_name
    source = score_grid.source_of(selection, name, view.score)
    score_grid.show_score(view.score, selection.head, "grid", sidebar.select_head, name=name, source=source)


part = Part("grid", 10, LEFT, render, help=HELP)
