"""Interactive figures (Plotly): a sweep's, and the two shapes that findings need, a heatmap and bars with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.plotting import style

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.results.sweep import Sweep


def of_sweep(sweep: Sweep, quantity: str) -> Figure:
    """Bars for one axis, a heatmap for two; for layer × head × position a heatmap with a menu of positions."""
    words, values, texts = style.words(sweep, quantity), getattr(sweep, quantity), style.hover(sweep, quantity)
    axes, labels = sweep.axes, sweep.labels
    common: dict[str, Any] = {
        "title": words.title,
        "subtitle": words.subtitle,
        "scale": words.scale,
        "note": words.note,
    }
    if len(axes) == 1:
        low, high = style.interval(sweep, quantity)
        return bars(values, low, high, labels[axes[0]], hover=texts, x_title=style.AXIS_NAMES[axes[0]], **common)
    common |= {"y_title": style.AXIS_NAMES[axes[0]], "x_title": style.AXIS_NAMES[axes[1]]}
    if len(axes) == 2:
        return heatmap(values, labels[axes[1]], labels[axes[0]], hover=texts, **common)
    best, where = style.largest_over_positions(values)
    best_texts = np.take_along_axis(texts, where[..., None], axis=-1)[..., 0]
    figure = heatmap(best, labels[axes[1]], labels[axes[0]], hover=best_texts, limit=style.limit(values), **common)
    views = [("largest over positions", best, best_texts)]
    views += [(f"position {name}", values[..., i], texts[..., i]) for i, name in enumerate(labels[axes[2]])]
    buttons = [
        {"label": name, "method": "restyle", "args": [{"z": [_plain(z)], "customdata": [t.tolist()]}]}
        for name, z, t in views
    ]
    figure.update_layout(updatemenus=[{"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}])
    return figure


def heatmap(
    values: np.ndarray,
    x: Sequence[str],
    y: Sequence[str],
    *,
    title: str = "",
    subtitle: str = "",
    scale: str = "",
    note: str = "",
    x_title: str = "",
    y_title: str = "",
    hover: np.ndarray | None = None,
    limit: float | None = None,
    diverging: bool = True,
    show_values: bool = False,
) -> Figure:
    """A heatmap of ``values [y, x]``, first row on top; NaN is grey.

    `diverging` centres the colours on 0, from −limit to limit (by default the largest magnitude); otherwise they run
    from 0 to limit. `scale` names the quantity and its units; `show_values` writes each value into its cell.
    """
    import plotly.graph_objects as go

    top = style.limit(values) if limit is None else limit
    trace = go.Heatmap(
        z=_plain(values),
        x=list(x),
        y=list(y),
        zmin=-top if diverging else 0,
        zmax=top,
        colorscale=style.DIVERGING if diverging else style.SEQUENTIAL,
        colorbar={"title": {"text": scale, "side": "right"}},
        customdata=None if hover is None else hover.tolist(),
        hovertemplate="%{y}, %{x}: %{z:.4g}<extra></extra>" if hover is None else "%{customdata}<extra></extra>",
        texttemplate="%{z:.2f}" if show_values else None,
        xgap=1,
        ygap=1,
        hoverongaps=True,
    )
    figure = _figure(trace, title, subtitle, note, x_title, y_title)
    figure.update_layout(height=min(1100, max(420, 190 + 19 * len(y))), plot_bgcolor=style.BLANK)
    figure.update_xaxes(type="category", showgrid=False, zeroline=False)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, zeroline=False)
    return figure


def bars(
    values: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    names: Sequence[str],
    *,
    title: str = "",
    subtitle: str = "",
    scale: str = "",
    note: str = "",
    x_title: str = "",
    hover: np.ndarray | None = None,
    reference: np.ndarray | None = None,
    reference_name: str = "chance",
    bar_name: str = "",
) -> Figure:
    """A bar for each name with its interval; `reference` puts a mark beside each bar (a chance level, a null).
    `bar_name` is what the legend calls the bars."""
    import plotly.graph_objects as go

    trace = go.Bar(
        x=list(names),
        y=_plain(values),
        error_y={
            "visible": bool(np.isfinite(low).any()),
            "type": "data",
            "symmetric": False,
            "array": _plain(high - values),
            "arrayminus": _plain(values - low),
            "thickness": 1.2,
            "color": style.WHISKER,
        },
        marker={"color": style.BAR},
        customdata=None if hover is None else hover.tolist(),
        hovertemplate="%{x}: %{y:.4g}<extra></extra>" if hover is None else "%{customdata}<extra></extra>",
        name=bar_name or scale,
    )
    figure = _figure(trace, title, subtitle, note, x_title, scale)
    if reference is not None:
        mark = {
            "symbol": "line-ew-open",
            "size": int(np.clip(260 / len(names), 8, 26)),
            "color": style.MARK,
            "line": {"width": 2},
        }
        figure.add_scatter(x=list(names), y=_plain(reference), mode="markers", name=reference_name, marker=mark)
    figure.update_layout(showlegend=reference is not None, height=460)
    figure.update_layout(legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"})
    figure.update_xaxes(type="category")
    return figure


def _figure(trace: Any, title: str, subtitle: str, note: str, x_title: str, y_title: str) -> Figure:
    import plotly.graph_objects as go

    figure = go.Figure(trace)
    figure.update_layout(
        title={"text": title, "subtitle": {"text": subtitle}, "x": 0.02, "xanchor": "left"},
        xaxis_title=x_title,
        yaxis_title=y_title,
        template="plotly_white",
        margin={"t": 110, "l": 70, "r": 30, "b": 90},
    )
    if note:
        place = {"xref": "paper", "yref": "paper", "x": 0, "y": 0, "yshift": -62, "xanchor": "left", "yanchor": "top"}
        figure.add_annotation(text=note, showarrow=False, font={"size": 11, "color": "#555"}, **place)
    return figure


def _plain(values: np.ndarray) -> list[Any]:
    """Lists with None for NaN: what Plotly's JSON can hold."""
    plain = np.asarray(values).astype(object)
    plain[~np.isfinite(values)] = None
    return plain.tolist()
