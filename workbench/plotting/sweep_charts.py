"""A sweep as a chart: bars for one axis, a heatmap for two, and for three (layer × head × position, or steps) both draw
what they can; of four the mean over steps is drawn.

The interactive figure has a menu of positions or steps; the still picture shows the strongest heads × that axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.plotting import plotly_charts, style
from workbench.plotting.charts import Bars, Heatmap, of_heads

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure

    from workbench.results.sweep import Sweep


def figure(sweep: Sweep, quantity: str) -> Figure:
    """The sweep as a Plotly figure."""
    sweep, text = _with_text(sweep, quantity)
    if len(sweep.axes) < 3:
        return _chart(sweep, quantity, text).figure()
    *axes, menu = _menu_last(sweep)
    if menu == "step":
        text = replace(text, subtitle=f"{text.subtitle} · largest over steps, or the step selected")
    values, texts = (_moved(sweep, array) for array in (getattr(sweep, quantity), style.hover(sweep, quantity)))
    largest, where = style.largest_over_positions(values)
    largest_texts = np.take_along_axis(texts, where[..., None], axis=-1)[..., 0]
    views = [(f"largest over {menu}s", largest, largest_texts)]
    views += [(f"{menu} {name}", values[..., i], texts[..., i]) for i, name in enumerate(sweep.labels[menu])]
    shared = {"limit": style.limit(values), **_words(text)}
    charts = {name: _heatmap(sweep, axes, z, hover=t, **shared) for name, z, t in views}
    buttons = [
        {"label": name, "method": "restyle", "args": [{"z": [plotly_charts.plain(chart.values)], "customdata": [t]}]}
        for name, chart in charts.items()
        for t in [np.asarray(chart.hover).tolist()]
    ]
    result = charts[views[0][0]].figure()
    result.update_layout(updatemenus=[{"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}])
    return result


def picture(sweep: Sweep, quantity: str) -> Picture:
    """The sweep as a matplotlib figure, the values of the strongest cells written into them and its baselines below."""
    sweep, text = _with_text(sweep, quantity)
    text = text.with_note(f"{sweep.baseline_note} {text.note}")
    labelled = style.strongest_cells(sweep)
    if len(sweep.axes) > 1 and labelled.any():
        text = text.with_note(f"Numbers in cells: the strongest with p ≤ {style.ALPHA:g}. {text.note}")
    if len(sweep.axes) < 3:
        return _chart(sweep, quantity, text, labelled).picture()
    *axes, last = _menu_last(sweep)
    values, labelled = (_moved(sweep, array) for array in (getattr(sweep, quantity), labelled))
    flat, labelled = (array.reshape(-1, values.shape[-1]) for array in (values, labelled))
    strength = np.nan_to_num(np.abs(style.largest_over_positions(flat)[0]), nan=-1.0)
    rows = np.argsort(-strength, kind="stable")[: len(flat) if len(flat) <= style.ALL else style.STRONGEST]
    rows = np.sort(rows[strength[rows] >= 0])
    names = [_name_of_row(sweep, last, np.unravel_index(row, values.shape[:-1])) for row in rows]
    words, of_heads = _words(text), axes[1].endswith("head")
    if len(rows) < len(flat):
        which = f"{len(rows)} strongest of" if len(flat) > style.ALL else f"{len(rows)} with a value of"
        words["subtitle"] += f" · the {which} {len(flat)} {'heads' if of_heads else 'cells'}"
    titles = {"y_title": "layer.head" if of_heads else " × ".join(axes), "x_title": style.AXIS_NAMES[last]}
    chart = Heatmap(flat[rows], sweep.labels[last], names, labelled=labelled[rows], **titles, **words)
    return chart.picture()


def _chart(sweep: Sweep, quantity: str, text: style.ChartText, labelled: np.ndarray | None = None) -> Bars | Heatmap:
    values, texts, axes, labels = getattr(sweep, quantity), style.hover(sweep, quantity), sweep.axes, sweep.labels
    if len(axes) == 1:
        low, high = style.interval(sweep, quantity)
        x_title = style.AXIS_NAMES[axes[0]]
        return Bars(values, low, high, labels[axes[0]], hover=texts, x_title=x_title, **_words(text))
    return _heatmap(sweep, axes, values, hover=texts, labelled=labelled, **_words(text))


def _heatmap(sweep: Sweep, axes: Sequence[str], values: np.ndarray, **options: Any) -> Heatmap:
    """Two axes of a sweep: of heads in the one orientation that grids of heads have."""
    rows, columns = (sweep.labels[axis] for axis in axes)
    titles = [style.AXIS_NAMES[axis] for axis in axes]
    if axes[0] == "layer" and axes[1].endswith("head"):
        return of_heads(values, rows, columns, x_title=titles[0], y_title=titles[1], **options)
    return Heatmap(values, columns, rows, x_title=titles[1], y_title=titles[0], **options)


def _with_text(sweep: Sweep, quantity: str) -> tuple[Sweep, style.ChartText]:
    """What is drawn of a sweep, and the words around it: of one with four axes the mean over its steps."""
    if len(sweep.axes) < 4:
        return sweep, style.chart_text(sweep, quantity)
    axes, by = sweep.axes[1:], [axis for axis in sweep.info.get("by") or () if axis != "step"]
    labels = {axis: sweep.labels[axis] for axis in axes}
    mean = replace(sweep, values=sweep.values.mean(0), axes=axes, labels=labels, info={**sweep.info, "by": by})
    text = style.chart_text(replace(mean, info={**mean.info, "n_steps": 1}), quantity)
    return mean, replace(text, subtitle=f"{text.subtitle} · mean over edits in each of {len(sweep.values)} steps")


def _menu_last(sweep: Sweep) -> list[str]:
    """The three axes, the one that the menu selects from (positions, else steps) as the last."""
    first, *others = sweep.axes
    return [*others, first] if first == "step" else [first, *others]


def _moved(sweep: Sweep, array: np.ndarray) -> np.ndarray:
    """An array of all cells with its axes in the order of `_menu_last`."""
    return np.moveaxis(array, 0, -1) if sweep.axes[0] == "step" else array


def _name_of_row(sweep: Sweep, last: str, index: tuple[Any, ...]) -> str:
    """A cell's name without the axis that is drawn beside it."""
    label = sweep.labels[last][0]
    name = sweep.name((0, *index) if last == "step" else (*index, 0))
    return name.replace(f" in step {label}", "") if last == "step" else name.removesuffix(f" at {label}")


def _words(text: style.ChartText) -> dict[str, Any]:
    words = {"title": text.title, "subtitle": text.subtitle, "scale": text.scale, "note": text.note}
    return {**words, "source": text.source}
