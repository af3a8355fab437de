"""A pattern on one canvas: hover, click on a cell, zoom into a range, arrow keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from app.components.component_files import load_component
from app.components.head_grid import scale_colours
from workbench.plotting import style
from workbench.plotting.colour_scale import DECADES

if TYPE_CHECKING:
    from app.heads.pattern_chart import PatternChart, Ranges

#: Positions that a range has at least.
SHORTEST = 2


def pattern_canvas(
    chart: PatternChart,
    key: str,
    *,
    dest: int | None = None,
    src: int | None = None,
    on_pick: Callable[[int, int, Ranges], None] | None = None,
    on_zoom: Callable[[Ranges | None], None] | None = None,
) -> None:
    """The chart.

    Args:
        dest, src: positions whose row and column get a frame.
        on_pick: called with the row and the column of the cell that was picked, and what the chart showed then, before
            the page reruns: it may have been zoomed since.
        on_zoom: called with the destinations and the sources to show, None for all.
    """

    def picked() -> None:
        place = st.session_state[key].picked
        if place is not None and on_pick is not None:
            (row, column), first, end = place
            ranges = (range(int(first[0]), int(end[0])), range(int(first[1]), int(end[1])))
            if all(part and part.start >= 0 and part.stop <= chart.length for part in ranges):
                on_pick(int(row), int(column), ranges)

    def zoomed() -> None:
        place = st.session_state[key].zoomed
        if place is not None and on_zoom is not None:
            rows, columns = (range(int(low), int(high) + 1) for low, high in place)
            on_zoom((rows, columns))

    def reset() -> None:
        if st.session_state[key].reset and on_zoom is not None:
            on_zoom(None)

    hints = ["Click a cell to ask about the pair."] if on_pick is not None else []
    hints += ["Drag to zoom."] if on_zoom is not None else []
    frames: list[int | None] = [None, None]
    for i, (at, part) in enumerate(zip((dest, src), chart.ranges, strict=True)):
        if at is not None and at in part:
            frames[i] = (at - part.start) // chart.size
    load_component("pattern")(
        data={
            **chart.canvas(),
            "x_title": chart.options["x_title"],
            "y_title": chart.options["y_title"],
            "colours": scale_colours(chart.options["diverging"]),
            "blank": style.BLANK,
            "decades": DECADES,
            "asked": frames,
            "picks": on_pick is not None,
            "zooms": on_zoom is not None and chart.length > SHORTEST,
            "hint": " ".join(hints),
        },
        key=key,
        on_picked_change=picked,
        on_zoomed_change=zoomed,
        on_reset_change=reset,
    )
