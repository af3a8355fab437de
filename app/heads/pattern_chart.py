"""A head's attention pattern as a figure, with its tokens; long ones pooled, with any block of them in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from app.downloadable import Chart
from app.plotly_text import escape_html
from workbench.plotting import style
from workbench.plotting.attention_view import FULL, laid_out, numbered

#: Rows and columns of a block that is shown in full.
BLOCK = 256
#: Cells have gaps between them where a row has at most so many.
MAX_CELLS_WITH_GAPS = 64
#: Pixels: of a row at most, of all rows at least and at most, of title and labels, and of a further subtitle line.
ROW_HEIGHT, MIN_HEIGHT, MAX_HEIGHT, FRAME_HEIGHT, LINE_HEIGHT = 19, 230, 440, 190, 16
#: Lines that mark the row and the column below the pointer.
SPIKE: dict[str, Any] = {
    "showspikes": True,
    "spikemode": "across",
    "spikesnap": "hovered data",
    "spikedash": "solid",
    "spikecolor": "#e69f00",
    "spikethickness": 2,
}


class PatternChart(Chart):
    """A heatmap of a pattern, as plain Plotly JSON.

    `workbench.plotting.charts.Heatmap` validates every value, which takes longer than a rerun may. The row and
    the column below the pointer are marked.
    """

    def plotly(self) -> dict[str, Any]:
        """For the page. Plotly interprets HTML tags, and a token may look like one."""
        (values,), options = self.arrays, self.options
        columns, rows = ([escape_html(label) for label in axis] for axis in self.labels)
        top = options.get("limit") or style.limit(values)
        lines = options["subtitle"].split("; ")
        below = LINE_HEIGHT * (len(lines) - 1)
        gap = 1 if max(values.shape) <= MAX_CELLS_WITH_GAPS else 0
        trace = {
            "type": "heatmap",
            "z": values.astype(np.float32),
            "x": columns,
            "y": rows,
            "zmin": -top if options["diverging"] else 0,
            "zmax": top,
            "colorscale": style.DIVERGING if options["diverging"] else style.SEQUENTIAL,
            "colorbar": {"title": {"text": options["scale"], "side": "right"}, "thickness": 12, "outlinewidth": 0},
            "hovertemplate": "%{y} → %{x}: %{z:.4g}<extra></extra>",
            "xgap": gap,
            "ygap": gap,
        }
        axis = {"type": "category", "showgrid": False, "zeroline": False, "automargin": True, **SPIKE}
        layout = {
            "template": {"layout": {}},
            "title": {
                "text": options["title"],
                "subtitle": {"text": "<br>".join(lines)},
                "x": 0,
                "xanchor": "left",
                "y": 1,
                "yanchor": "top",
                "pad": {"t": 12},
            },
            "height": FRAME_HEIGHT + below + min(MAX_HEIGHT, max(MIN_HEIGHT, ROW_HEIGHT * len(rows))),
            "margin": {"t": 70 + below, "l": 8, "r": 8, "b": 8},
            "hovermode": "closest",
            "xaxis": {**axis, "title": {"text": options["x_title"]}, "range": [-0.5, len(columns) - 0.5]},
            "yaxis": {**axis, "title": {"text": options["y_title"]}, "range": [len(rows) - 0.5, -0.5]},
        }
        return {"data": [trace], "layout": layout}


def pattern_chart(
    pattern: Float[np.ndarray, "dest src"],
    tokens: Sequence[str],
    *,
    title: str,
    scale: str,
    block: tuple[int, int] | None = None,
    signed: bool = False,
    limit: float | None = None,
) -> PatternChart:
    """The chart of a pattern.

    Args:
        block: of a long prompt, which block of `BLOCK` destinations and which of sources are shown in full; None pools
            them all.
        signed: a difference of two patterns, on a scale centred on zero.
        limit: the end of the scale; by default the largest magnitude.
    """
    names = numbered(tokens)
    if block is None:
        values, labels, options = laid_out(pattern, names)
        rows = columns = labels
    else:
        dest, src = (slice(i * BLOCK, (i + 1) * BLOCK) for i in block)
        values, rows, columns = pattern[dest, src], names[dest], names[src]
        options = laid_out(values[:1, :1], names[:1])[2]
        ranges = [f"{part.start} to {min(part.stop, len(tokens)) - 1}" for part in (dest, src)]
        options["subtitle"] = f"destination positions {ranges[0]} of {len(tokens)}; source positions {ranges[1]}"
    options |= {"title": title, "scale": scale, "diverging": signed}
    if limit is not None:
        options["limit"] = limit
    return PatternChart("heatmap", (values,), (columns, rows), options)


def block_names(length: int) -> list[str]:
    """The names of the blocks of a long prompt; empty for short ones."""
    if length <= FULL:
        return []
    return [f"{i} to {min(i + BLOCK, length) - 1}" for i in range(0, length, BLOCK)]
