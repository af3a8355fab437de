"""The open head under another attention operator."""

from __future__ import annotations

from app.heads import under_operator
from app.heads.view import View
from app.part import BELOW, Part

HELP = f"**Under another operator**: {under_operator.HELP[0].lower()}{under_operator.HELP[1:]}"


def render(view: View) -> None:
    """The section."""
    under_operator.show_under_operator(view.selection, view.asking.dest)


part = Part("operator", 40, BELOW, render, help=HELP)
