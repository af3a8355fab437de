"""Texts for Plotly, which reads some HTML and breaks no lines."""

from __future__ import annotations

import textwrap
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

#: Characters of a line that a telephone shows.
MAX_COLUMNS = 56
#: Points of a line of a title or subtitle.
LINE_HEIGHT = 18
#: And of a colour bar with its title.
COLORBAR_HEIGHT = 44


def escape_html(text: str) -> str:
    """Text as Plotly shows it."""
    return escape(text, quote=False)


def wrap(text: str, columns: int = MAX_COLUMNS) -> str:
    """Lines that a telephone shows, broken behind dots where they can be."""
    lines: list[str] = []
    for part in text.split(" · "):
        if lines and len(lines[-1]) + len(part) + 3 <= columns:
            lines[-1] += f" · {part}"
        else:
            lines += textwrap.wrap(part, columns)
    return "<br>".join(map(escape_html, lines))


def fit_title(figure: Figure) -> str:
    """Give a figure's title and subtitle lines that a telephone shows, and room for them.

    Returns:
        its notes, which are taken out of it: below a narrow figure they would lie on the names of its columns.
    """
    layout: Any = figure.layout
    traces: Any = figure.data
    notes = " ".join(str(each.text) for each in layout.annotations)
    layout.annotations = ()
    old_title = layout.title
    title, subtitle = wrap(str(old_title.text or ""), MAX_COLUMNS * 3 // 4), wrap(str(old_title.subtitle.text or ""))
    extra = LINE_HEIGHT * (title.count("<br>") + subtitle.count("<br>"))
    title_layout = {"text": title, "subtitle": {"text": subtitle}, "x": 0.02, "xanchor": "left"}
    figure.update_layout(title={**title_layout, "y": 0.94, "yref": "container", "yanchor": "top"})
    if [trace.type for trace in traces] == ["heatmap"] and not layout.updatemenus:  # a menu would lie on it
        horizontal_colorbar(figure)
        extra += COLORBAR_HEIGHT
    if extra:
        margin = {"t": (layout.margin.t or 100) + extra}
        figure.update_layout(margin=margin, height=(layout.height or 450) + extra)
    return notes


def horizontal_colorbar(figure: Figure) -> None:
    """Lay a heatmap's colour bar above it: beside it, it would take a telephone's width."""
    trace: Any = figure.data[0]
    # Plotly would move the figure's title out of sight for a horizontal colour bar that has a title of its own.
    place = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 1, "yanchor": "bottom", "yshift": 34}
    figure.add_annotation(text=trace.colorbar.title.text, showarrow=False, **place)
    bar = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "thickness": 10, "title": {"text": ""}}
    figure.update_traces(colorbar=bar)
