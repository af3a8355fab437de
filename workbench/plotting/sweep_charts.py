"""A sweep as a chart: bars for one axis, a heatmap for two, and for layer × head × position both draw what they can.

The interactive figure has a menu of positions; the still picture shows the strongest heads × position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.plotting import plotly_charts, style
from workbench.plotting.charts import Bars, Heatmap

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure

    from workbench.results.sweep import Sweep


def figure(sweep: Sweep, quantity: str) -> Figure:
    """The sweep as a Plotly figure."""
    if len(sweep.axes) < 3:
        return _chart(sweep, quantity, style.chart_text(sweep, quantity)).figure()
    values, texts = getattr(sweep, quantity), style.hover(sweep, quantity)
    largest, where = style.largest_over_positions(values)
    largest_texts = np.take_along_axis(texts, where[..., None], axis=-1)[..., 0]
    views = [("largest over positions", largest, largest_texts)]
    views += [(f"position {name}", values[..., i], texts[..., i]) for i, name in enumerate(sweep.labels[sweep.axes[2]])]
    chart = Heatmap(
        largest,
        sweep.labels[sweep.axes[1]],
        sweep.labels[sweep.axes[0]],
        hover=largest_texts,
        limit=style.limit(values),
        **_titles(sweep),
        **_words(style.chart_text(sweep, quantity)),
    )
    buttons = [
        {"label": name, "method": "restyle", "args": [{"z": [plotly_charts.plain(z)], "customdata": [t.tolist()]}]}
        for name, z, t in views
    ]
    result = chart.figure()
    result.update_layout(updatemenus=[{"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}])
    return result


def picture(sweep: Sweep, quantity: str) -> Picture:
    """The sweep as a matplotlib figure, the values of the strongest cells written into them."""
    text, labelled = style.chart_text(sweep, quantity), style.strongest_cells(sweep)
    if len(sweep.axes) > 1 and labelled.any():
        text = text.with_note(f"Numbers in cells: the strongest with p ≤ {style.ALPHA:g}. {text.note}")
    if len(sweep.axes) < 3:
        return _chart(sweep, quantity, text, labelled).picture()
    values = getattr(sweep, quantity)
    flat, labelled = (array.reshape(-1, values.shape[-1]) for array in (values, labelled))
    strength = np.nan_to_num(np.abs(style.largest_over_positions(flat)[0]), nan=-1.0)
    rows = np.argsort(-strength, kind="stable")[: style.STRONGEST]
    rows = np.sort(rows[strength[rows] >= 0])
    heads = [sweep.name((*np.unravel_index(row, values.shape[:-1]), 0)).split(" at ")[0] for row in rows]
    words = _words(text)
    words["subtitle"] += f" · the {len(rows)} strongest of {len(flat)} heads"
    titles = {"y_title": "layer.head", "x_title": "position"}
    chart = Heatmap(flat[rows], sweep.labels[sweep.axes[2]], heads, labelled=labelled[rows], **titles, **words)
    return chart.picture()


def _chart(sweep: Sweep, quantity: str, text: style.ChartText, labelled: np.ndarray | None = None) -> Bars | Heatmap:
    values, texts, axes, labels = getattr(sweep, quantity), style.hover(sweep, quantity), sweep.axes, sweep.labels
    if len(axes) == 1:
        low, high = style.interval(sweep, quantity)
        x_title = style.AXIS_NAMES[axes[0]]
        return Bars(values, low, high, labels[axes[0]], hover=texts, x_title=x_title, **_words(text))
    return Heatmap(
        values, labels[axes[1]], labels[axes[0]], hover=texts, labelled=labelled, **_titles(sweep), **_words(text)
    )


def _titles(sweep: Sweep) -> dict[str, str]:
    return {"y_title": style.AXIS_NAMES[sweep.axes[0]], "x_title": style.AXIS_NAMES[sweep.axes[1]]}


def _words(text: style.ChartText) -> dict[str, Any]:
    return {"title": text.title, "subtitle": text.subtitle, "scale": text.scale, "note": text.note}
