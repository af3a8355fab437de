"""The patterns of all heads, as small maps."""

from __future__ import annotations

from app.heads import model_view
from app.heads.view import View
from app.part import BELOW, Part

HELP = (
    "**Patterns of all heads**: a small map for each head, in order of layer or of the selected score. Click a map to "
    "open its head; or move with the arrow keys and press Enter."
)


def render(view: View) -> None:
    """The maps, behind a toggle."""
    model_view.show_model_view(view)


part = Part("model-view", 30, BELOW, render, help=HELP)
