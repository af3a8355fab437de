"""Still pictures: every chart of `workbench.plotting.charts`, drawn with matplotlib (for PNG and PDF).

Nothing uses matplotlib's global state: they are safe in threads.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.io.tables import printed
from workbench.plotting import style
from workbench.plotting.colour_scale import LINEAR

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.plotting.charts import (
        Bars,
        Chart,
        Graph,
        Heatmap,
        Line,
        Lines,
        Multiples,
        Panels,
        PointsAndCurves,
        Scatter,
    )
    from workbench.plotting.source import Source

#: Inches of one of some small multiples, and of all that stand side by side at most.
MULTIPLE, MOST_INCHES = 0.62, 12.0

#: Enough for a page of print; drawing and packing take longer with each.
MAX_PIXELS = 2_000
#: Of PNG, 1 to 9: more takes several times as long for a few per cent of the size.
COMPRESSION = 3
#: Of the note at the foot.
_NOTE: dict[str, Any] = {"x": 0.01, "ha": "left", "fontsize": 7.5, "color": "#555555"}
#: Inches: of a line below the note, and of the space around it.
_FOOT_LINE, _PAD = 0.15, 0.04


def draw(chart: Chart) -> Figure:
    """The chart as a matplotlib figure."""
    drawings: dict[str, Any] = {
        "heatmap": _heatmap,
        "bars": _bars,
        "lines": _lines,
        "points and curves": _points_and_curves,
        "panels": _panels,
        "scatter": _scatter,
        "graph": _graph,
        "multiples": _multiples,
    }
    return drawings[chart.kind](chart)


def _heatmap(chart: Heatmap) -> Figure:
    values, columns, rows = chart.values, len(chart.x), len(chart.y)
    scale = chart.colour_scale
    width = min(14.0, max(6.0, 2.6 + (0.62 if chart.show_values else 0.36) * columns))
    slanted = style.is_crowded(chart.x, width - 2)
    height = 1.9 + (0.5 if chart.show_values else 0.21) * rows + (0.7 if slanted else 0.0)
    figure = _figure(width, min(12.0, max(3.6, height)))
    axes = figure.subplots()
    from matplotlib import colormaps

    colours = colormaps[style.DIVERGING if chart.diverging else style.SEQUENTIAL].with_extremes(bad=chart.blank)
    linear = scale.kind == LINEAR
    limit = scale.limit if linear else 1.0
    image = axes.imshow(
        np.ma.masked_invalid(values if linear else scale.shares(values)),
        cmap=colours,
        vmin=-limit if chart.diverging else 0,
        vmax=limit,
        aspect="auto",
        interpolation="nearest",
    )
    if chart.has_gaps:
        axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    _name_columns(axes, chart.x, slanted)
    axes.set_yticks(*style.sparse_ticks(chart.y, 40))
    labelled = np.full(values.shape, chart.show_values) if chart.labelled is None else chart.labelled
    _write_values(axes, values, image, labelled)
    name = f"{chart.scale} ({scale.name})" if scale.name else chart.scale
    bar = figure.colorbar(image, ax=axes, label=name, fraction=0.05, pad=0.03)
    bar.outline.set_visible(False)
    if not linear:
        ticks = scale.ticks()
        bar.set_ticks([share for _, share, _ in ticks], labels=[text for _, _, text in ticks])
    _label(chart, figure, axes, chart.x_title, chart.y_title)
    return figure


def _bars(chart: Bars) -> Figure:
    values, low, high = chart.values, chart.low, chart.high
    width = min(14.0, max(6.0, 2 + 0.36 * len(chart.names)))
    slanted = style.is_crowded(chart.names, width - 1)
    figure = _figure(width, 4.6 if slanted else 4.0)
    axes, at = figure.subplots(), np.arange(len(chart.names))
    finite = np.isfinite(low) & np.isfinite(high)
    error = np.stack([values - low, high - values])[:, finite].clip(min=0)
    axes.bar(at, np.nan_to_num(values), color=style.BAR, width=0.72, label=chart.bar_name or None)
    axes.errorbar(at[finite], values[finite], yerr=error, fmt="none", ecolor="black", elinewidth=1, capsize=2)
    axes.axhline(0, color="black", linewidth=0.8)
    _name_columns(axes, chart.names, slanted)
    axes.margins(x=0.02)
    axes.spines[["top", "right"]].set_visible(False)
    if chart.reference is not None:
        mark: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1.2, "label": chart.reference_name}
        axes.hlines(chart.reference, at - 0.45, at + 0.45, **mark)
        axes.legend(frameon=False, loc="best", fontsize=8)  # above the axes it would lie on the subtitle
    _label(chart, figure, axes, chart.x_title, chart.scale)
    return figure


def _lines(chart: Lines) -> Figure:
    figure = _figure(7.0, 4.2)
    axes = figure.subplots()
    for index, (name, line) in enumerate(chart.lines.items()):
        _draw_line(axes, name, line, style.colour(index), {"marker": "o", "markersize": 3})
    if chart.log_x:
        axes.set_xscale("log")
    if len(chart.lines) > 1:
        axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    _label(chart, figure, axes, chart.x_title, chart.y_title)
    return figure


def _points_and_curves(chart: PointsAndCurves) -> Figure:
    figure = _figure(7.6, 4.6)
    axes = figure.subplots()
    if chart.log_x:
        axes.set_xscale("log")
    if chart.log_y:
        axes.set_yscale("log", nonpositive="mask")
    for index, (name, series) in enumerate(chart.series.items()):
        colour = style.colour(index)
        if series.curve is not None:
            axes.plot(*series.curve, color=colour, linewidth=1.4)
        error = None
        if series.low is not None and series.high is not None:
            error = np.stack([series.y - series.low, series.high - series.y]).clip(min=0)
        marker: dict[str, Any] = {"marker": style.symbol(index)[0], "markersize": 5, "linestyle": "none"}
        axes.errorbar(series.x, series.y, yerr=error, color=colour, label=name, elinewidth=1, capsize=2, **marker)
    if any(series.curve is not None for series in chart.series.values()):
        axes.plot([], [], color=style.WHISKER, label=chart.curve_name)
    _plain_ticks(axes.xaxis, chart.x_ticks, chart.log_x)
    _plain_ticks(axes.yaxis, [], chart.log_y)
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda i: names[i] == chart.curve_name)  # which comes last
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "frameon": False, "fontsize": 8}
    axes.legend([handles[i] for i in order], [names[i] for i in order], **place)
    axes.spines[["top", "right"]].set_visible(False)
    _label(chart, figure, axes, chart.x_title, chart.y_title)
    return figure


def _plain_ticks(axis: Any, ticks: Sequence[float], log: bool) -> None:
    """Numbers as they are, not as powers of ten."""
    from matplotlib.ticker import LogFormatter, NullLocator

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    if ticks:
        axis.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axis.set_minor_locator(NullLocator())
    elif log:
        axis.set_major_formatter(Plain())
        axis.set_minor_formatter(Plain(minor_thresholds=(1.5, 0.7)))


def _panels(chart: Panels) -> Figure:
    figure = _figure(3.6 * chart.columns, 1.4 + 1.9 * chart.rows)
    grid = figure.subplots(chart.rows, chart.columns, sharex=True, sharey=True, squeeze=False)
    names, last = chart.names, len(chart.panels) - 1
    for panel, (title, lines) in enumerate(chart.panels.items()):
        axes = grid.flat[panel]
        for name, line in lines.items():
            _draw_line(axes, name, line, style.colour(names.index(name)), {})
        axes.set_title(title, loc="left", fontsize=9, parse_math=False)
        axes.spines[["top", "right"]].set_visible(False)
        if panel > last - chart.columns:  # nothing stands below it
            axes.set_xlabel(chart.x_title)
            axes.xaxis.set_tick_params(labelbottom=True)
        if panel % chart.columns == 0:
            axes.set_ylabel(chart.y_title, fontsize=9)
    if chart.y_range is not None:
        grid.flat[0].set_ylim(*chart.y_range)
    for axes in grid.flat[last + 1 :]:
        axes.set_visible(False)
    if len(names) > 1:
        lines = {text: line for axes in grid.flat for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
        place: dict[str, Any] = {"loc": "outside right upper"}
        if last + 1 < grid.size:  # in the room of a panel that there is not
            place = {"loc": "lower right", "bbox_to_anchor": (0.99, 0.1)}
        figure.legend([lines[name] for name in names], names, frameon=False, fontsize=8, **place)
    _title(chart, figure, " · ".join(filter(None, [chart.subtitle, chart.note])))  # each panel has its own title
    return figure


def _draw_line(axes: Any, name: str, line: Line, colour: str, marker: dict[str, Any]) -> None:
    """A line and its band, where it has one."""
    axes.plot(line.x, line.y, color=colour, label=name, **({"linestyle": "--"} if line.dashed else marker))
    if line.low is not None and line.high is not None:
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=style.FAINT, linewidth=0)


def _scatter(chart: Scatter) -> Figure:
    figure = _figure(6.4, 4.6)
    axes = figure.subplots()
    axes.scatter(chart.x[chart.finite], chart.y[chart.finite], color=style.BAR, s=28, alpha=0.8, linewidth=0)
    for i in chart.furthest:
        offset: dict[str, Any] = {"xytext": (4, 4), "textcoords": "offset points", "fontsize": 8}
        axes.annotate(chart.names[i], (chart.x[i], chart.y[i]), **offset)
    if (line := chart.line) is not None:
        axes.plot(chart.ends, chart.on_line(chart.ends), color=style.MARK, label=style.regression_text(line, chart.log))
    if chart.diagonal:
        axes.plot(chart.ends, chart.ends, color=style.WHISKER, linestyle="--", label=chart.diagonal)
    if chart.log:
        from matplotlib.ticker import LogFormatter

        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):  # numbers as they are, not as powers of ten
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.4)))
    if line is not None or chart.diagonal:
        axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    _label(chart, figure, axes, chart.x_title, chart.y_title)
    return figure


def _graph(chart: Graph) -> Figure:
    figure = _figure(7.0, 5.6)
    axes = figure.subplots()
    for (sender, receiver), strength in chart.edges.items():
        colour = style.BAR if strength >= 0 else style.MARK
        arrow = {"arrowstyle": "->", "color": colour, "linewidth": chart.width(strength), "alpha": 0.6}
        axes.annotate("", chart.nodes[receiver], chart.nodes[sender], arrowprops={**arrow, "shrinkA": 8, "shrinkB": 8})
    for index, (group, names) in enumerate(chart.members.items()):
        places = np.array([chart.nodes[name] for name in names], dtype=float)
        axes.scatter(*places.T, s=90, color=style.colour(index), label=group or None, zorder=3)
        for name, place in zip(names, places, strict=True):
            axes.annotate(name, place, xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
    if len(chart.members) > 1:
        axes.legend(frameon=False, fontsize=8)
    axes.margins(0.12)
    axes.spines[:].set_visible(False)
    _label(chart, figure, axes, chart.x_title, chart.y_title)
    return figure


def _multiples(chart: Multiples) -> Figure:
    from matplotlib import colormaps

    values, places, scale = chart.mosaic(), chart.places, chart.colour_scale
    each = min(MULTIPLE, MOST_INCHES / chart.columns) * chart.columns / values.shape[1]
    width, height = (each * pixels for pixels in reversed(values.shape))
    figure = _figure(max(4.5, width + 1.3), height + 1.5)
    axes = figure.subplots()
    colours = colormaps[style.SEQUENTIAL].with_extremes(bad=(0, 0, 0, 0))
    shares = np.ma.masked_invalid(scale.shares(values))
    image = axes.imshow(shares, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    for name, (x, y) in zip(chart.names, places, strict=True):
        axes.text(x, y, name, ha="center", va="center", fontsize=6).set_in_layout(False)
    bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 3 / height), anchor=(0, 1), pad=0.02)
    bar.set_label(f"{chart.scale}\n({scale.name})" if scale.name else chart.scale, fontsize=8)
    ticks = scale.ticks()
    bar.set_ticks([share for _, share, _ in ticks], labels=[text for _, _, text in ticks], fontsize=8)
    bar.outline.set_visible(False)
    _label(chart, figure, axes, "", "")
    return figure


def _name_columns(axes: Any, names: Sequence[str], slanted: bool) -> None:
    axes.set_xticks(*style.sparse_ticks(names, 40), rotation=40 if slanted else 0, ha="right" if slanted else "center")


def image(figure: Figure, ending: str = "png", dpi: int = 150) -> bytes:
    """The figure as ``png`` or ``svg``; a PNG has at most `MAX_PIXELS` along its longer side. The line of
    `add_source` is the file's description, too."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")  # or it is laid out again
    buffer, canvas, own_dpi = io.BytesIO(), figure.canvas, figure.get_dpi()
    metadata = {"Description": label} if (label := str(figure.get_label())) else None
    figure.set_dpi(min(dpi, MAX_PIXELS / max(figure.get_size_inches())))
    try:  # a canvas of its own: `savefig` draws once more beforehand, to lay out what is laid out
        if ending == "png":
            FigureCanvasAgg(figure).print_png(buffer, metadata=metadata, pil_kwargs={"compress_level": COMPRESSION})
        else:
            FigureCanvasSVG(figure).print_svg(buffer, metadata=metadata)
    finally:
        figure.set_dpi(own_dpi)
        figure.set_canvas(canvas)
    return buffer.getvalue()


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _write_values(axes: Any, values: np.ndarray, image: Any, labelled: np.ndarray) -> None:
    """The values of the cells where `labelled` is true, black on light and white on dark cells."""
    if not labelled.any():
        return
    shades = image.cmap(image.norm(image.get_array()))[..., :3] @ (0.299, 0.587, 0.114)
    written = labelled & np.isfinite(values)
    spec = _spec(values[written])
    for row, column in np.argwhere(written).tolist():
        text = printed(values[row, column], spec)
        colour = "white" if shades[row, column] < 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)


def _spec(values: np.ndarray) -> str:
    """How numbers that stand beside each other are written: two decimals, or two digits of the largest of them."""
    largest = float(np.abs(values).max(initial=0))
    decimals = 2 if largest == 0 else max(2, 1 - math.floor(math.log10(largest)))
    return f".{decimals}f" if decimals <= 4 else ".0e"


def _label(chart: Chart, figure: Any, axes: Any, x_title: str, y_title: str) -> None:
    axes.set_xlabel(x_title)
    axes.set_ylabel(y_title)
    axes.set_title(
        textwrap.fill(chart.subtitle, int(12 * (figure.get_figwidth() - 0.8))),
        loc="left",
        fontsize=9,
        color="#444444",
        parse_math=False,
    )
    _title(chart, figure, chart.note)


def _title(chart: Chart, figure: Figure, note: str) -> None:
    """The title above everything, and a note at the foot."""
    width = figure.get_figwidth()
    figure.suptitle(
        textwrap.fill(chart.title, int(9 * width)), x=0.01, ha="left", fontsize=11, fontweight="bold", parse_math=False
    )
    if note:
        figure.supxlabel(textwrap.fill(note, int(17 * width)), **_NOTE)


def add_source(figure: Figure, source: Source) -> Figure:
    """Say at the foot what a figure is of, in a strip that is added for it. The line becomes the figure's label."""
    text = source.caption
    figure.set_label(text)
    width, height = figure.get_size_inches()
    text = textwrap.fill(text, int(17 * width))
    strip = _FOOT_LINE * (text.count("\n") + 1) + 2 * _PAD
    figure.set_size_inches(width, height + strip)
    if note := figure.get_supxlabel():  # for which the layout makes room
        figure.supxlabel(f"{note}\n{text}", parse_math=False, **_NOTE)
        return figure
    if figure.legends:  # at the foot as well: the line goes above them
        label = figure.axes[0].xaxis.label
        label.set_text(f"{label.get_text()}\n{text}")
        return figure
    if (engine := figure.get_layout_engine()) is not None:
        rect: dict[str, Any] = {"rect": (0, strip / (height + strip), 1, height / (height + strip))}
        engine.set(**rect)
    place = {name: value for name, value in _NOTE.items() if name != "x"}
    figure.text(_NOTE["x"], _PAD / (height + strip), text, va="bottom", parse_math=False, in_layout=False, **place)
    return figure
