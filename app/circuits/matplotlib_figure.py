"""A circuit's graph as PNG or SVG (matplotlib), for the downloads."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from app.circuits import layout as at
from app.circuits.graph import CircuitGraph, Node

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DASHES = {"dotted": (0, (1, 2)), "dashed": (0, (4, 2)), "solid": "solid"}


def matplotlib_picture(graph: CircuitGraph) -> Figure:
    """The graph as a matplotlib figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layout, colours = at.compute_layout(graph), at.role_colours(graph)
    width = min(14.0, max(6.5, 2.0 + 0.55 * layout.width))
    figure = Figure(figsize=(width, 2.6 + 0.42 * layout.height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _lines(axes, graph, layout, colours)
    for node in graph.nodes:
        _marker(axes, graph, layout, node, colours)
    _axes(axes, graph, layout)
    _texts(figure, axes, graph, width)
    _legend(figure, graph, colours, max(1, int(width / 1.6)))
    return figure


def _lines(axes: Any, graph: CircuitGraph, layout: at.Layout, colours: dict[str, str]) -> None:
    for line in graph.lines:
        source = graph.node(line.source)
        (x0, y0), (x1, y1) = at.line_ends(layout, line)
        dash = "dotted" if not line.measured else "dashed" if at.is_negative(source) else "solid"
        colour = colours.get(at.base_role(source.role), at.OTHER) if line.measured else at.OTHER
        width = 0.75 * at.line_width(graph, line)
        style = {"color": colour, "alpha": 0.65, "linewidth": width, "linestyle": _DASHES[dash], "zorder": 1}
        axes.plot([x0, x1], [y0, y1], solid_capstyle="butt", **style)


def _marker(axes: Any, graph: CircuitGraph, layout: at.Layout, node: Node, colours: dict[str, str]) -> None:
    x, y = layout.positions[node.key]
    if node.kind == "logits":
        axes.plot(at.logits_bar(graph, layout), [y, y], color=at.DARK, linewidth=4, solid_capstyle="butt", zorder=3)
        return
    if node.kind == "joint":
        axes.plot(x, y, marker="D", color=at.DARK, markersize=10, zorder=3)
        _write(axes, node.text, (x, y), {"xytext": (0, 0), "va": "center"}, 6.5, "white")
        return
    size = 0.75 * at.marker_size(graph, node)
    axes.plot(x, y, **_marker_style(node, colours), markersize=size, zorder=2)
    if node.head == graph.selected:
        axes.plot(x, y, marker="o", markersize=22, markerfacecolor="none", markeredgecolor=at.OTHER, markeredgewidth=2)
    _write(axes, node.label, (x, y), {"xytext": (0, -size / 2 - 1), "va": "top"}, 7, "black")


def _marker_style(node: Node, colours: dict[str, str]) -> dict[str, Any]:
    colour = colours.get(at.base_role(node.role), at.OTHER) if node.kind == "head" else at.OTHER
    hollow = node.kind == "receives" or at.is_hollow(node)
    shape = "s" if node.kind == "receives" else "v" if at.is_negative(node) else "o"
    face = "white" if hollow else colour
    return {"marker": shape, "markerfacecolor": face, "markeredgecolor": colour, "linestyle": "none"}


def _legend(figure: Any, graph: CircuitGraph, colours: dict[str, str], columns: int) -> None:
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {}
    for node in graph.nodes:
        if node.head is not None:
            name = node.role or "no role" if node.kind == "head" else "receives only"
            marker = _marker_style(node, colours)
            full = marker | {"markerfacecolor": marker["markeredgecolor"]} if node.kind == "head" else marker
            handles.setdefault(name, Line2D([], [], **full, markersize=7))
    if handles:
        legend = figure.legend(
            list(handles.values()), list(handles), loc="outside lower left", ncols=columns, frameon=False, fontsize=8
        )
        for text in legend.get_texts():
            text.set_parse_math(False)


def _write(axes: Any, text: str, xy: tuple[float, float], place: dict[str, Any], size: float, colour: str) -> None:
    axes.annotate(
        text, xy, textcoords="offset points", ha="center", fontsize=size, color=colour, parse_math=False, **place
    )


def _axes(axes: Any, graph: CircuitGraph, layout: at.Layout) -> None:
    places, names = at.row_names(graph, layout)
    axes.set_yticks(places, names, fontsize=8)
    axes.set_ylabel("layer")
    axes.set_ylim(-0.7, len(names) - 0.4)
    axes.set_xlim(-0.5, layout.width + 0.5)
    wide = [textwrap.fill(name, 14) for name in graph.lanes.values()]
    axes.set_xticks([layout.centres[lane] for lane in graph.lanes], wide, fontsize=8)
    for text in axes.get_xticklabels():
        text.set_parse_math(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _texts(figure: Any, axes: Any, graph: CircuitGraph, width: float) -> None:
    title = textwrap.fill(graph.title, int(9 * width))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", parse_math=False)
    subtitle = textwrap.fill(graph.subtitle, int(12 * (width - 0.8)))
    axes.set_title(subtitle, loc="left", fontsize=9, color="#444444", parse_math=False)
    # Below the lanes' names and above the legend, which Matplotlib would put over a figure note.
    note = textwrap.fill(graph.note, int(16 * width))
    axes.set_xlabel(
        f"{graph.columns}\n\n{note}", loc="left", fontsize=7.5, color="#555555", labelpad=8, parse_math=False
    )
