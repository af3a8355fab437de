"""Notes on the open head, as on the page Heads."""

from app.diffusion.view import View
from app.heads.parts import notes
from app.part import RIGHT, Part


def render(view: View) -> None:
    """The part."""
    notes.show_notes(view.model_name, view.head, "diffusion")


part = Part("notes", 20, RIGHT, render, ("diffusion",), notes.HELP)
