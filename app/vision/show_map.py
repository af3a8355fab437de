"""What a head attends to from a position, over an image or a sample, with its downloads."""

from __future__ import annotations

from collections.abc import Sequence

import workbench as wb
from app.components.image_map import MOST_POSITIONS, image_map
from app.downloadable import download_buttons
from app.vision.map_figure import MapFigure
from app.vision.position import position_widget, select_position
from workbench.plotting.source import Source

#: Of the picture: its right half.
FOLLOWS, CLICKED = "Left: point at a patch, or click it.", "Left: click a patch."
OVER = "Right: what it attends to; colours lie over the picture and end at the largest weight on a patch."


def show_map(seen: wb.ImageAttention, head: int, source: Source, key: str, name: str) -> None:
    """The list of positions, the map from the selected one, and the downloads.

    Args:
        head: its index in the layer.
        source: what the files name.
        name: of the files.
    """
    position = position_widget(seen.labels)
    image_map(
        seen,
        head,
        seen.index(position),
        key=key,
        note=map_note(seen.labels),
        on_pick=lambda place: select_position(seen.labels[place]),
    )
    download_buttons(MapFigure(seen, head, position, source), key, name)


def map_note(labels: Sequence[str]) -> str:
    """How a map of so many positions is asked, and what it shows."""
    return f"{FOLLOWS if len(labels) <= MOST_POSITIONS else CLICKED} {OVER}"
