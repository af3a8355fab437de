"""Notes on the open head, as on the page Heads."""

from app.heads.parts import notes
from app.part import RIGHT, Part
from app.vision.view import View


def render(view: View) -> None:
    """The part."""
    notes.show_notes(view.model_name, view.head, "vision")


part = Part("notes", 30, RIGHT, render, ("vision",), notes.HELP)
