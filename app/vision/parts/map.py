"""What the open head attends to from a position, over the image."""

from collections.abc import Sequence

from app.components.image_map import MOST_POSITIONS, image_map
from app.downloadable import download_buttons
from app.part import RIGHT, Part
from app.vision.map_figure import MapFigure
from app.vision.on_image import attention
from app.vision.position import position_widget, select_position
from app.vision.view import View

#: Of the picture: its right half.
FOLLOWS, CLICKED = "Left: point at a patch, or click it.", "Left: click a patch."
OVER = "Right: what it attends to; colours lie over the picture and end at the largest weight on a patch."


def map_note(labels: Sequence[str]) -> str:
    """How a map of so many positions is asked, and what it shows."""
    return f"{FOLLOWS if len(labels) <= MOST_POSITIONS else CLICKED} {OVER}"


def render(view: View) -> None:
    """The part."""
    seen = attention(view)
    position = position_widget(seen.labels)
    at = seen.index(position)
    image_map(
        seen,
        view.head.index,
        at,
        key="image-map",
        note=map_note(seen.labels),
        on_pick=lambda place: select_position(seen.labels[place]),
    )
    download_buttons(MapFigure(seen, view.head.index, position, view.source), "image-map", "vision-attention")


HELP = (
    "The **map** shows the row of the open head's pattern for the selected position. Positions that are no patches "
    "(CLS, registers) stand above the picture, with their weights. Arrow keys move from patch to patch, and up from "
    "the first row to CLS."
)
part = Part("map", 10, RIGHT, render, ("vision",), HELP)
