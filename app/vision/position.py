"""The position that the page asks about: a patch, or a token that the model adds. It is URL state."""

from __future__ import annotations

from collections.abc import Sequence

from app import url_widgets

POSITION = "image-position"
HELP = 'What attends: "2,3" is the patch in row 2 and column 3, counted from 0.'


def position_widget(labels: Sequence[str]) -> str:
    """The list of positions."""
    return url_widgets.select("From", labels, POSITION, help=HELP)


def selected_position(labels: Sequence[str]) -> str:
    """The selected position; the first where this image has none of that name."""
    position = url_widgets.current(POSITION, labels[0])
    return position if position in labels else labels[0]


def select_position(label: str) -> None:
    """Select a position; for callbacks."""
    url_widgets.set_value(POSITION, label)
