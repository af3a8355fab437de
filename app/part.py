"""A part of a page: each file in a page's folder ``parts`` ends in ``part = Part(...)``.

``app/heads/parts/my_part.py``, which appears below the pattern of the open head::

    from app.heads.view import View
    from app.part import RIGHT, Part


    def render(view: View) -> None:
        st.caption(f"Head {view.selection.head}")


    part = Part("my-part", 50, RIGHT, render, help="What it shows, in a line or two.")

A part speaks of positions by the labels that the model gives (`Selection.labels`), so that it serves every modality
that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import streamlit as st

from app.messages import show_errors
from workbench.registry import Registry

V = TypeVar("V")
#: Places of a page: two columns, one on a narrow screen, and the full width above and below them.
ABOVE, LEFT, RIGHT, BELOW = PLACES = ("above", "left", "right", "below")


@dataclass(frozen=True)
class Part(Generic[V]):
    """One part of a page.

    Attributes:
        name: its file's name.
        order: parts of one place are rendered by it.
        place: one of `PLACES`.
        render: renders the part, given what the page shows.
        modalities: of the models that it serves.
        help: what it shows and what its controls do, in Markdown, for the page's help panel.
    """

    name: str
    order: int
    place: str
    render: Callable[[V], None]
    modalities: tuple[str, ...] = ("language",)
    help: str = ""


def parts(registry: Registry[Part[Any]], modality: str) -> list[Part[Any]]:
    """The parts for models of a modality, in order."""
    every = (registry[name] for name in registry.names())
    return sorted((part for part in every if modality in part.modalities), key=lambda part: part.order)


def render_all(registry: Registry[Part[Any]], view: Any, widths: Sequence[int]) -> None:
    """Every part of a page about one head: above, in two columns, of which the right one names the head, and below.

    Args:
        view: with ``model`` and ``head``.
        widths: of the columns.
    """
    some = parts(registry, view.model.modality)
    render(some, ABOVE, view)
    left, right = st.columns(widths, gap="medium")
    with left:
        render(some, LEFT, view)
    with right:
        st.subheader(f"Head {view.head}", anchor=False)
        render(some, RIGHT, view)
    render(some, BELOW, view)


def render(some: list[Part[V]], place: str, view: V) -> None:
    """Render the parts of a place; an error of one of them is a line there, and the others are still rendered."""
    for part in some:
        if part.place == place:
            with show_errors():
                part.render(view)
