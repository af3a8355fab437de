"""What the model does without the open head: a button that opens the page Patching."""

from __future__ import annotations

from app import open_patching, url_widgets
from app.heads import task_scores
from app.heads.view import View
from app.part import RIGHT, Part

HELP = (
    "**Ablate**: sets the head to zero on this prompt and shows the next token before and after, on the page Patching. "
    "Heads that you ablate before stay in the set."
)


def render(view: View) -> None:
    """The button."""
    head = view.selection.head
    if open_patching.ablate_button(head, "ablate"):
        on_task = view.prompts is not None
        open_patching.ablate(head, url_widgets.current(task_scores.CLOSELY, "1") if on_task else "")


part = Part("edit", 30, RIGHT, render, help=HELP)
