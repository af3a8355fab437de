"""A head's pattern as a figure, with its tokens; long ones pooled, with any block of them in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from app.plotted import safe
from app.shown import Shown
from workbench.plotting import style
from workbench.plotting.attention_view import FULL, laid_out, numbered

#: Rows and columns of a block that is shown in full.
BLOCK = 256
#: Cells have gaps between them up to so many in a row, and are up to so many points high; so is the whole of them.
GAPS, ROW, LOWEST, HIGHEST = 64, 19, 230, 440
#: What is above and below the cells: title and labels; and a further line of the subtitle.
AROUND, LINE = 190, 16
#: The lines that mark the row and the column below the pointer.
SPIKE: dict[str, Any] = {
    "showspikes": True,
    "spikemode": "across",
    "spikesnap": "hovered data",
    "spikedash": "solid",
    "spikecolor": "#e69f00",
    "spikethickness": 2,
}


class Pattern(Shown):
    """A heatmap of a pattern as plain Plotly JSON, whose making is not checked value by value as that of
    that of `workbench.plotting.charts.Heatmap` is, with the row and the column below the pointer marked."""

    def plotly(self) -> dict[str, Any]:
        """For the page. Plotly reads tags in what it writes, and a token may look like one."""
        (values,), words = self.arrays, self.words
        columns, rows = ([safe(label) for label in axis] for axis in self.labels)
        top = words.get("limit") or style.limit(values)
        lines = words["subtitle"].split("; ")
        below = LINE * (len(lines) - 1)
        gap = 1 if max(values.shape) <= GAPS else 0
        trace = {
            "type": "heatmap",
            "z": values.astype(np.float32),
            "x": columns,
            "y": rows,
            "zmin": -top if words["diverging"] else 0,
            "zmax": top,
            "colorscale": style.DIVERGING if words["diverging"] else style.SEQUENTIAL,
            "colorbar": {"title": {"text": words["scale"], "side": "right"}, "thickness": 12, "outlinewidth": 0},
            "hovertemplate": "%{y} → %{x}: %{z:.4g}<extra></extra>",
            "xgap": gap,
            "ygap": gap,
        }
        axis = {"type": "category", "showgrid": False, "zeroline": False, "automargin": True, **SPIKE}
        layout = {
            "template": {"layout": {}},
            "title": {
                "text": words["title"],
                "subtitle": {"text": "<br>".join(lines)},
                "x": 0,
                "xanchor": "left",
                "y": 1,
                "yanchor": "top",
                "pad": {"t": 12},
            },
            "height": AROUND + below + min(HIGHEST, max(LOWEST, ROW * len(rows))),
            "margin": {"t": 70 + below, "l": 8, "r": 8, "b": 8},
            "hovermode": "closest",
            "xaxis": {**axis, "title": {"text": words["x_title"]}, "range": [-0.5, len(columns) - 0.5]},
            "yaxis": {**axis, "title": {"text": words["y_title"]}, "range": [len(rows) - 0.5, -0.5]},
        }
        return {"data": [trace], "layout": layout}


def shown(
    pattern: Float[np.ndarray, "dest src"],
    tokens: Sequence[str],
    *,
    title: str,
    scale: str,
    block: tuple[int, int] | None = None,
    signed: bool = False,
    limit: float | None = None,
) -> Pattern:
    """The pattern to be shown.

    Args:
        block: of a long prompt, which block of `BLOCK` destinations and which of sources are shown in full; None pools
            them all.
        signed: differences of two patterns, on a scale centred on zero.
        limit: the end of the scale; by default the largest magnitude.
    """
    names = numbered(tokens)
    if block is None:
        values, labels, words = laid_out(pattern, names)
        rows = columns = labels
    else:
        dest, src = (slice(i * BLOCK, (i + 1) * BLOCK) for i in block)
        values, rows, columns = pattern[dest, src], names[dest], names[src]
        words = laid_out(values[:1, :1], names[:1])[2]
        where = [f"{part.start} to {min(part.stop, len(tokens)) - 1}" for part in (dest, src)]
        words["subtitle"] = f"positions {where[0]} of {len(tokens)}; what they attend to among {where[1]}"
    words |= {"title": title, "scale": scale, "diverging": signed}
    if limit is not None:
        words["limit"] = limit
    return Pattern("heatmap", (values,), (columns, rows), words)


def blocks(length: int) -> list[str]:
    """The names of the blocks of a long prompt; empty for short ones."""
    if length <= FULL:
        return []
    return [f"{i} to {min(i + BLOCK, length) - 1}" for i in range(0, length, BLOCK)]
