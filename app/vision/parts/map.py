"""What the open head attends to from a position, over the image."""

from app.part import RIGHT, Part
from app.vision.on_image import attention
from app.vision.show_map import show_map
from app.vision.view import View


def render(view: View) -> None:
    """The part."""
    show_map(attention(view), view.head.index, view.source, "image-map", "vision-attention")


HELP = (
    "The **map** shows the row of the open head's pattern for the selected position. Positions that are no patches "
    "(CLS, registers) stand above the picture, with their weights. Arrow keys move from patch to patch, and up from "
    "the first row to CLS."
)
part = Part("map", 10, RIGHT, render, ("vision",), HELP)
