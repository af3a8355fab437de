"""A circuit's graph for the page (Plotly). Every marker of a head carries its name, which a click returns."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from app.circuits import layout as at
from app.circuits.graph import CircuitGraph, Line, Node
from app.plotly_text import escape_html, wrap

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

#: Pixels of a row, and of a line of text.
ROW, TEXT = 44, 17
#: The names of more lanes than this are on two levels.
LEVEL = 4
_INVISIBLE = {"size": 14, "opacity": 0}


def plotly_figure(graph: CircuitGraph) -> Figure:
    """The figure: lines first, so that markers are above them."""
    import plotly.graph_objects as go

    layout, colours = at.compute_layout(graph), at.role_colours(graph)
    traces = _lines(graph, layout, colours)
    if measured := [line for line in graph.lines if line.measured]:
        traces.append(_middles(graph, layout, measured))
    for role in dict.fromkeys(node.role for node in graph.nodes if node.kind == "head"):
        nodes = [node for node in graph.nodes if node.kind == "head" and node.role == role]
        traces.append(_heads(graph, layout, nodes, role, colours[at.base_role(role)]))
    if receivers := [node for node in graph.nodes if node.kind == "receives"]:
        traces.append(_heads(graph, layout, receivers, "receives only", at.OTHER))
    traces += [_joint(layout, node) for node in graph.nodes if node.kind == "joint"]
    traces += [_logits(graph, layout, node) for node in graph.nodes if node.kind == "logits"]
    if ringed := [node for node in graph.nodes if node.head is not None and node.head == graph.selected]:
        traces.append(_ring(graph, layout, ringed))
    entries = sum(trace.get("showlegend", True) for trace in traces)
    return go.Figure([{"type": "scatter", **trace} for trace in traces], _layout(graph, layout, entries))


def _lines(graph: CircuitGraph, layout: at.Layout, colours: dict[str, str]) -> list[dict[str, Any]]:
    """One trace for all lines of one style: Plotly is slow in traces, not in points."""
    by_style: dict[tuple[float, str, str], dict[str, list[float | None]]] = {}
    for line in graph.lines:
        source = graph.node(line.source)
        dash = "dot" if not line.measured else "dash" if at.is_negative(source) else "solid"
        colour = colours.get(at.base_role(source.role), at.OTHER) if line.measured else at.OTHER
        (x0, y0), (x1, y1) = at.line_ends(layout, line)
        places = by_style.setdefault((at.line_width(graph, line), colour, dash), {"x": [], "y": []})
        places["x"] += [x0, x1, None]
        places["y"] += [y0, y1, None]
    common = {"mode": "lines", "opacity": 0.65, "hoverinfo": "skip", "showlegend": False}
    return [
        {**places, **common, "line": {"width": width, "color": colour, "dash": dash}}
        for (width, colour, dash), places in by_style.items()
    ]


def _middles(graph: CircuitGraph, layout: at.Layout, lines: list[Line]) -> dict[str, Any]:
    """Invisible markers with the lines' tooltips: Plotly has none between the ends of a line."""
    ends = [at.line_ends(layout, line) for line in lines]
    return {
        "x": [(a[0] + b[0]) / 2 for a, b in ends],
        "y": [(a[1] + b[1]) / 2 for a, b in ends],
        "mode": "markers",
        "marker": _INVISIBLE,
        "customdata": [[graph.node(line.source).label, _line_tooltip(graph, line)] for line in lines],
        "hovertemplate": "%{customdata[1]}<extra></extra>",
        "showlegend": False,
        **_unfaded(0),
    }


def _line_tooltip(graph: CircuitGraph, line: Line) -> str:
    source, target = graph.node(line.source), graph.node(line.target)
    if target.kind == "joint":
        return "<br>".join(map(escape_html, (source.hover[0], *target.hover, line.strength.describe(graph.quantity))))
    into = f" ({line.into})" if line.into else ""
    return escape_html(f"{source.label} → {target.label}{into}  {line.strength.describe(graph.quantity)}".rstrip())


def _heads(graph: CircuitGraph, layout: at.Layout, nodes: list[Node], role: str, colour: str) -> dict[str, Any]:
    symbols = [_symbol(node) for node in nodes]
    return {
        "x": [layout.positions[node.key][0] for node in nodes],
        "y": [layout.positions[node.key][1] for node in nodes],
        **_labels(graph, layout, nodes, selected=False),
        "marker": {
            "size": [at.marker_size(graph, node) for node in nodes],
            "symbol": symbols,
            "color": colour,
            "opacity": 1,
            "line": {"width": [2 if symbol.endswith("-open") else 0 for symbol in symbols], "color": colour},
        },
        "customdata": [[node.label, "<br>".join(map(escape_html, node.hover))] for node in nodes],
        "hovertemplate": "%{customdata[1]}<extra></extra>",
        "name": escape_html(role or "no role"),
        **_unfaded(1),
    }


def _labels(graph: CircuitGraph, layout: at.Layout, nodes: list[Node], selected: bool) -> dict[str, Any]:
    """Labels below the markers, or above where they would touch; the ring has the selected head's."""
    above = at.labels_above(graph, layout)
    return {
        "mode": "markers+text",
        "text": [node.label if (node.head == graph.selected) == selected else "" for node in nodes],
        "textposition": ["top center" if node.key in above else "bottom center" for node in nodes],
        "textfont": {"size": 9, "weight": 600},
    }


def _symbol(node: Node) -> str:
    if node.kind == "receives":
        return "square-open"
    return ("triangle-down" if at.is_negative(node) else "circle") + ("-open" if at.is_hollow(node) else "")


def _joint(layout: at.Layout, node: Node) -> dict[str, Any]:
    x, y = layout.positions[node.key]
    return {
        "x": [x],
        "y": [y],
        "mode": "markers+text",
        "text": [node.text],
        "textfont": {"size": 9, "color": "white"},
        "marker": {"symbol": "diamond", "size": 18, "color": at.DARK},
        "customdata": [["", "<br>".join(map(escape_html, node.hover))]],
        "hovertemplate": "%{customdata[1]}<extra></extra>",
        "showlegend": False,
        **_unfaded(1),
    }


def _logits(graph: CircuitGraph, layout: at.Layout, node: Node) -> dict[str, Any]:
    y = layout.positions[node.key][1]
    return {
        "x": list(at.logits_bar(graph, layout)),
        "y": [y, y],
        "mode": "lines",
        "line": {"width": 5, "color": at.DARK},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _ring(graph: CircuitGraph, layout: at.Layout, nodes: list[Node]) -> dict[str, Any]:
    return {
        "x": [layout.positions[node.key][0] for node in nodes],
        "y": [layout.positions[node.key][1] for node in nodes],
        **_labels(graph, layout, nodes, selected=True),
        "marker": {"symbol": "circle-open", "size": 27, "color": at.OTHER, "line": {"width": 3}},
        "hoverinfo": "skip",
        "name": "selected head",
        **_unfaded(1),
    }


def _unfaded(opacity: float) -> dict[str, Any]:
    """A click does not fade the other markers."""
    return {"selected": {"marker": {"opacity": opacity}}, "unselected": {"marker": {"opacity": opacity}}}


def _layout(graph: CircuitGraph, layout: at.Layout, entries: int) -> dict[str, Any]:
    """Everything but the traces; the legend has so many `entries`."""
    subtitle = wrap(graph.subtitle)
    lanes = ["<br>".join(map(escape_html, textwrap.wrap(name, 12))) for name in graph.lanes.values()]
    if len(lanes) > LEVEL:
        down = "<br>" * (1 + max(name.count("<br>") for name in lanes[::2]))
        lanes[1::2] = [down + name for name in lanes[1::2]]
    places, names = at.row_names(graph, layout)
    top = 62 + TEXT * subtitle.count("<br>")
    below = TEXT * (max(name.count("<br>") for name in lanes) + 2) + 26
    rows, legend = ROW * len(names), 14 * entries + 10
    fixed = {"zeroline": False, "fixedrange": True}
    return {
        "title": {"text": wrap(graph.title), "subtitle": {"text": subtitle}, "x": 0, "y": 0.99, "yanchor": "top"},
        "template": "plotly_white",
        "height": top + rows + below + legend,
        "margin": {"l": 10, "r": 10, "t": top, "b": below + legend},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": -below / rows, "yanchor": "top"}
        | {"itemsizing": "constant"},
        "hovermode": "closest",
        "dragmode": False,
        "clickmode": "event+select",
        "xaxis": fixed
        | {"tickvals": [layout.centres[lane] for lane in graph.lanes], "ticktext": lanes, "showgrid": False}
        | {"range": [-0.5, layout.width + 0.5], "tickangle": 0, "title": {"text": graph.columns, "standoff": 14}},
        "yaxis": fixed
        | {"tickvals": places, "ticktext": names, "range": [-0.7, len(names) - 0.3], "automargin": True}
        | {"title": {"text": "layer", "standoff": 10}},
    }
