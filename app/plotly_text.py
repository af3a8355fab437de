"""Text for Plotly, which interprets some HTML and breaks no lines."""

from __future__ import annotations

import textwrap
from html import escape
from typing import TYPE_CHECKING, Any

from workbench.plotting.source import ANNOTATION

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

#: Characters of a line that fits on a phone.
MAX_COLUMNS = 56
#: Pixels of a line of a title or subtitle.
LINE_HEIGHT = 18
#: And of a colour bar with its title.
COLORBAR_HEIGHT = 44


def escape_html(text: str) -> str:
    """Text that Plotly shows as it is."""
    return escape(text, quote=False)


def wrap(text: str, columns: int = MAX_COLUMNS) -> str:
    """Lines that fit on a phone, broken after dots where possible."""
    lines: list[str] = []
    for part in text.split(" · "):
        if lines and len(lines[-1]) + len(part) + 3 <= columns:
            lines[-1] += f" · {part}"
        else:
            lines += textwrap.wrap(part, columns)
    return "<br>".join(map(escape_html, lines))


def escape_title(figure: Figure) -> Figure:
    """The figure, whose title and subtitle are shown as they are: a name in them may be a file's."""
    layout: Any = figure.layout
    title, subtitle = (escape_html(text or "") for text in (layout.title.text, layout.title.subtitle.text))
    return figure.update_layout(title={"text": title, "subtitle": {"text": subtitle}})


def fit_title(figure: Figure) -> str:
    """Break a figure's title and subtitle into lines that fit on a phone, and make room for them.

    Returns:
        its notes, which are removed from it: below a narrow figure they would cover the column labels.
    """
    layout: Any = figure.layout
    traces: Any = figure.data
    notes = " ".join(str(annotation.text) for annotation in layout.annotations if annotation.name != ANNOTATION)
    layout.annotations = ()
    old_title = layout.title
    title, subtitle = wrap(str(old_title.text or ""), MAX_COLUMNS * 3 // 4), wrap(str(old_title.subtitle.text or ""))
    extra = LINE_HEIGHT * (title.count("<br>") + subtitle.count("<br>"))
    title_layout = {"text": title, "subtitle": {"text": subtitle}, "x": 0.02, "xanchor": "left"}
    figure.update_layout(title={**title_layout, "y": 0.94, "yref": "container", "yanchor": "top"})
    if [trace.type for trace in traces] == ["heatmap"] and not layout.updatemenus:  # a menu would cover it
        horizontal_colorbar(figure)
        extra += COLORBAR_HEIGHT
    if extra:
        margin = {"t": (layout.margin.t or 100) + extra}
        figure.update_layout(margin=margin, height=(layout.height or 450) + extra)
    return notes


def horizontal_colorbar(figure: Figure) -> None:
    """Put a heatmap's colour bar above it: at its side it would take up a phone's width."""
    trace: Any = figure.data[0]
    # A horizontal colour bar with a title of its own would make Plotly move the figure's title out of sight.
    place = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 1, "yanchor": "bottom", "yshift": 34}
    figure.add_annotation(text=trace.colorbar.title.text, showarrow=False, **place)
    bar = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "thickness": 10, "title": {"text": ""}}
    figure.update_traces(colorbar=bar)
