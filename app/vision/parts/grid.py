"""The grid of all heads, coloured by a score on the image."""

from app import sidebar
from app.heads.score_grid import show_score
from app.part import LEFT, Part
from app.vision.view import View


def render(view: View) -> None:
    """The part."""
    show_score(
        view.score,
        view.head,
        "image-grid",
        sidebar.select_head,
        name=f"image-{view.score_name}",
        source=view.source_of_all_heads,
    )


HELP = "The **grid** opens a head: click a cell, or move with the arrow keys. Grey: no value, and the line says why."
part = Part("grid", 10, LEFT, render, ("vision",), HELP)
