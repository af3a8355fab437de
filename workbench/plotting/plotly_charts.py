"""Interactive figures: every chart of `workbench.plotting.charts`, drawn with Plotly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.io.tables import printed
from workbench.plotting import style
from workbench.plotting.colour_scale import LINEAR

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

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

#: Pixels of one of some small multiples, and of all that stand side by side at most.
MULTIPLE_PIXELS, MOST_PIXELS = 84, 1200


def draw(chart: Chart) -> Figure:
    """The chart as a Plotly figure."""
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
    import plotly.graph_objects as go

    scale = chart.colour_scale
    trace = go.Heatmap(
        z=plain(chart.values),
        x=list(chart.x),
        y=list(chart.y),
        zmin=-scale.limit if chart.diverging else 0,
        zmax=scale.limit,
        colorscale=style.DIVERGING if chart.diverging else style.SEQUENTIAL,
        colorbar={"title": {"text": chart.scale, "side": "right"}},
        customdata=None if chart.hover is None else chart.hover.tolist(),
        hovertemplate="%{y}, %{x}: %{z:.4g}<extra></extra>" if chart.hover is None else "%{customdata}<extra></extra>",
        texttemplate="%{z:.2f}" if chart.show_values else None,
        xgap=int(chart.has_gaps),
        ygap=int(chart.has_gaps),
        hoverongaps=True,
    )
    if scale.kind != LINEAR:  # Plotly colours linearly: it is given shares, and the values beside them
        ticks = scale.ticks()
        hover = "%{y}, %{x}: %{customdata:.4g}" if chart.hover is None else "%{customdata}"
        trace.update(
            z=plain(scale.shares(chart.values)),
            zmin=-1 if chart.diverging else 0,
            zmax=1,
            customdata=plain(chart.values) if chart.hover is None else chart.hover.tolist(),
            hovertemplate=f"{hover}<extra></extra>",
            text=[[printed(v, ".2f") for v in row] for row in chart.values] if chart.show_values else None,
            texttemplate="%{text}" if chart.show_values else None,
            colorbar={
                "title": {"text": f"{chart.scale} ({scale.name})", "side": "right"},
                "tickvals": [share for _, share, _ in ticks],
                "ticktext": [text for _, _, text in ticks],
            },
        )
    figure = _figure(chart, trace, chart.x_title, chart.y_title)
    figure.update_layout(height=min(1100, max(420, 190 + 19 * len(chart.y))), plot_bgcolor=chart.blank)
    figure.update_xaxes(type="category", showgrid=False, zeroline=False)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, zeroline=False)
    return figure


def _bars(chart: Bars) -> Figure:
    import plotly.graph_objects as go

    names = list(chart.names)
    trace = go.Bar(
        x=names,
        y=plain(chart.values),
        error_y={
            "visible": bool(np.isfinite(chart.low).any()),
            "type": "data",
            "symmetric": False,
            "array": plain(chart.high - chart.values),
            "arrayminus": plain(chart.values - chart.low),
            "thickness": 1.2,
            "color": style.WHISKER,
        },
        marker={"color": style.BAR},
        customdata=None if chart.hover is None else chart.hover.tolist(),
        hovertemplate="%{x}: %{y:.4g}<extra></extra>" if chart.hover is None else "%{customdata}<extra></extra>",
        name=chart.bar_name or chart.scale,
    )
    figure = _figure(chart, trace, chart.x_title, chart.scale)
    if chart.reference is not None:
        mark = {
            "symbol": "line-ew-open",
            "size": int(np.clip(130 / len(names), 4, 14)),  # in a narrow column, too, no wider than the bar
            "color": style.MARK,
            "line": {"width": 2},
        }
        figure.add_scatter(x=names, y=plain(chart.reference), mode="markers", name=chart.reference_name, marker=mark)
    figure.update_layout(showlegend=chart.reference is not None, height=460, legend=_LEGEND)
    figure.update_xaxes(type="category")
    return figure


def _lines(chart: Lines) -> Figure:
    figure = _figure(chart, None, chart.x_title, chart.y_title)
    for index, (name, line) in enumerate(chart.lines.items()):
        figure.add_traces(_traces(name, line, style.colour(index)))
    figure.update_layout(showlegend=len(chart.lines) > 1, height=460, legend=_LEGEND)
    if chart.log_x:
        figure.update_xaxes(type="log")
    return figure


def _points_and_curves(chart: PointsAndCurves) -> Figure:
    import plotly.graph_objects as go

    figure = _figure(chart, None, chart.x_title, chart.y_title)
    for index, (name, series) in enumerate(chart.series.items()):
        colour, group = style.colour(index), {"legendgroup": name}
        if series.curve is not None:
            x, y = (plain(side) for side in series.curve)
            figure.add_trace(
                go.Scatter(x=x, y=y, mode="lines", line={"color": colour}, showlegend=False, hoverinfo="skip", **group)
            )
        error = {}
        if series.low is not None and series.high is not None:
            ends = {"array": plain(series.high - series.y), "arrayminus": plain(series.y - series.low)}
            error = {"error_y": {"type": "data", "symmetric": False, "thickness": 1.2, "color": colour, **ends}}
        marker = {"color": colour, "size": 8, "symbol": style.symbol(index)[1]}
        figure.add_trace(
            go.Scatter(x=plain(series.x), y=plain(series.y), mode="markers", name=name, marker=marker, **error, **group)
        )
    if any(series.curve is not None for series in chart.series.values()):
        line = {"mode": "lines", "line": {"color": style.WHISKER}, "name": chart.curve_name}
        figure.add_trace(go.Scatter(x=[None], y=[None], **line))
    figure.update_layout(height=500, legend={"x": 1.02, "xanchor": "left", "y": 1})
    ticks = {"tickmode": "array", "tickvals": chart.x_ticks} if chart.x_ticks else {}
    figure.update_xaxes(type="log" if chart.log_x else "linear", **ticks)
    figure.update_yaxes(type="log" if chart.log_y else "linear", exponentformat="none")
    return figure


def _panels(chart: Panels) -> Figure:
    from plotly.subplots import make_subplots

    last = len(chart.panels) - 1
    cells = [{} if panel <= last else None for panel in range(chart.rows * chart.columns)]
    grid = make_subplots(
        rows=chart.rows,
        cols=chart.columns,
        specs=[cells[start : start + chart.columns] for start in range(0, len(cells), chart.columns)],
        subplot_titles=list(chart.panels),
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=0.08,
    )
    figure = _figure(chart, None, "", "", grid)
    names, in_legend = chart.names, set()
    for panel, lines in enumerate(chart.panels.values()):
        row, column = divmod(panel, chart.columns)
        for name, line in lines.items():
            traces = _traces(name, line, style.colour(names.index(name)))
            for trace in traces:
                trace.update(legendgroup=name, mode="lines")
            traces[-1].update(showlegend=name not in in_legend)
            in_legend.add(name)
            figure.add_traces(traces, rows=row + 1, cols=column + 1)
        if panel > last - chart.columns:  # nothing stands below it
            figure.update_xaxes(title_text=chart.x_title, showticklabels=True, row=row + 1, col=column + 1)
    figure.update_yaxes(title_text=chart.y_title, col=1)
    if chart.y_range is not None:
        figure.update_yaxes(range=list(chart.y_range))
    figure.update_layout(showlegend=len(names) > 1, height=200 + 210 * chart.rows, legend=_LEGEND)
    return figure


def _traces(name: str, line: Line, colour: str) -> list[Any]:
    """A line, after its band where it has one."""
    import plotly.graph_objects as go

    traces = []
    if line.low is not None and line.high is not None:
        band: dict[str, Any] = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        fill = {"fill": "tonexty", "fillcolor": style.faint(colour)}
        traces += [
            go.Scatter(x=plain(line.x), y=plain(line.high), **band),
            go.Scatter(x=plain(line.x), y=plain(line.low), **band, **fill),
        ]
    dash = {"dash": "dash"} if line.dashed else {}
    mode = "lines" if line.dashed else "lines+markers"
    return [
        *traces,
        go.Scatter(x=plain(line.x), y=plain(line.y), mode=mode, name=name, line={"color": colour, **dash}),
    ]


def _scatter(chart: Scatter) -> Figure:
    import plotly.graph_objects as go

    names = [name for name, finite in zip(chart.names, chart.finite, strict=True) if finite]
    points = go.Scatter(
        x=plain(chart.x[chart.finite]),
        y=plain(chart.y[chart.finite]),
        mode="markers",
        customdata=names,
        hovertemplate="%{customdata}: %{x:.4g}, %{y:.4g}<extra></extra>",
        marker={"color": style.BAR, "size": 8, "opacity": 0.8},
        showlegend=False,
    )
    figure = _figure(chart, points, chart.x_title, chart.y_title)
    if (line := chart.line) is not None:
        figure.add_scatter(
            x=plain(chart.ends),
            y=plain(chart.on_line(chart.ends)),
            mode="lines",
            line={"color": style.MARK},
            name=style.regression_text(line, chart.log),
        )
    if chart.diagonal:
        dashed = {"color": style.WHISKER, "dash": "dash"}
        figure.add_scatter(x=plain(chart.ends), y=plain(chart.ends), mode="lines", line=dashed, name=chart.diagonal)
    if chart.log:
        figure.update_xaxes(type="log")
        figure.update_yaxes(type="log")
    figure.update_layout(height=460, legend=_LEGEND)
    return figure


def _graph(chart: Graph) -> Figure:
    import plotly.graph_objects as go

    figure = _figure(chart, None, chart.x_title, chart.y_title)
    for (sender, receiver), strength in chart.edges.items():
        (x0, y0), (x1, y1) = chart.nodes[sender], chart.nodes[receiver]
        figure.add_annotation(
            x=x1,
            y=y1,
            ax=x0,
            ay=y0,
            **{"xref": "x", "yref": "y", "axref": "x", "ayref": "y"},
            arrowhead=2,
            arrowwidth=chart.width(strength),
            arrowcolor=style.BAR if strength >= 0 else style.MARK,
            opacity=0.6,
            standoff=10,
            hovertext=f"{sender} → {receiver}: {printed(strength)}",
        )
    for index, (group, names) in enumerate(chart.members.items()):
        figure.add_trace(
            go.Scatter(
                x=[chart.nodes[name][0] for name in names],
                y=[chart.nodes[name][1] for name in names],
                mode="markers+text",
                text=names,
                textposition="top center",
                hoverinfo="text",
                marker={"size": 14, "color": style.colour(index)},
                name=group,
            )
        )
    figure.update_layout(showlegend=len(chart.members) > 1, height=560, legend=_LEGEND)
    return figure


_LEGEND = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"}


def _multiples(chart: Multiples) -> Figure:
    import plotly.graph_objects as go

    values, places, scale = chart.mosaic(), chart.places, chart.colour_scale
    hover = {} if chart.hover is None else {"text": chart.mosaic(chart.hover).tolist()}
    ticks = scale.ticks()
    trace = go.Heatmap(
        z=plain(scale.shares(values)),  # Plotly colours linearly: it is given shares, and the values beside them
        zmin=0,
        zmax=1,
        customdata=None if scale.kind == LINEAR else plain(values),
        colorscale=style.SEQUENTIAL,
        colorbar={
            "title": {"text": f"{chart.scale} ({scale.name})" if scale.name else chart.scale, "side": "right"},
            "tickvals": [share for _, share, _ in ticks],
            "ticktext": [text for _, _, text in ticks],
            **{"lenmode": "pixels", "len": 300, "y": 1},
        },
        hovertemplate=f"{'%{text}: ' if hover else ''}%{{{'z' if scale.kind == LINEAR else 'customdata'}:.4g}}"
        "<extra></extra>",
        hoverongaps=False,
        **hover,
    )
    figure = _figure(chart, trace, "", "")
    names: dict[str, Any] = {"mode": "text", "text": list(chart.names), "textfont": {"size": 10}, "hoverinfo": "skip"}
    figure.add_scatter(x=places[:, 0], y=places[:, 1], showlegend=False, **names)
    each = MULTIPLE_PIXELS / values.shape[1] * chart.columns
    size = min(1.0, MOST_PIXELS / (values.shape[1] * each))
    width, height = (round(pixels * each * size) for pixels in reversed(values.shape))
    figure.update_layout(width=width + 190, height=height + 200)
    figure.update_xaxes(visible=False, range=[-0.5, values.shape[1] - 0.5])
    figure.update_yaxes(visible=False, range=[values.shape[0] - 0.5, -0.5])
    return figure


def _figure(chart: Chart, trace: Any, x_title: str, y_title: str, grid: Figure | None = None) -> Figure:
    import plotly.graph_objects as go

    figure = go.Figure(trace) if grid is None else grid
    figure.update_layout(
        title={"text": chart.title, "subtitle": {"text": chart.subtitle}, "x": 0.02, "xanchor": "left"},
        xaxis_title=x_title,
        yaxis_title=y_title,
        template="plotly_white",
        margin={"t": 110, "l": 70, "r": 30, "b": 90},
    )
    if chart.note:
        place = {"xref": "paper", "yref": "paper", "x": 0, "y": 0, "yshift": -62, "xanchor": "left", "yanchor": "top"}
        figure.add_annotation(text=chart.note, showarrow=False, font={"size": 11, "color": "#555"}, **place)
    return figure


def plain(values: np.ndarray) -> list[Any]:
    """Lists with None for NaN: what Plotly's JSON can hold."""
    result = np.asarray(values).astype(object)
    result[~np.isfinite(values)] = None
    return result.tolist()
