"""What the open head writes, the next token, and the heads with the most similar patterns."""

from __future__ import annotations

from app.heads import detail
from app.heads.view import View
from app.part import BELOW, Part

HELP = (
    "**Effect on logits**: the tokens that the head’s output at the last position raises and lowers most, directly "
    "through the final norm and the unembedding. **Most similar heads**: by the cosine of their patterns, after "
    "subtracting the uniform pattern from each."
)


def render(view: View) -> None:
    """Three tables."""
    detail.show_what_it_writes(view.selection)


part = Part("output", 10, BELOW, render, help=HELP)
