"""Still figures (matplotlib, for PNG and PDF), drawn without matplotlib's global state: they are safe in threads."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.plotting import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.results.sweep import Sweep


def of_sweep(sweep: Sweep, quantity: str) -> Figure:
    """Bars for one axis, a heatmap for two; for layer × head × position the strongest heads × position."""
    words, values, shown = style.words(sweep, quantity), getattr(sweep, quantity), style.strongest_cells(sweep)
    axes, labels = sweep.axes, sweep.labels
    common: dict[str, Any] = {
        "title": words.title,
        "subtitle": words.subtitle,
        "scale": words.scale,
        "note": words.note,
    }
    if len(axes) == 1:
        low, high = style.interval(sweep, quantity)
        return bars(values, low, high, labels[axes[0]], x_title=style.AXIS_NAMES[axes[0]], **common)
    if shown.any():
        common["note"] = f"Numbers: the strongest cells with p ≤ {style.ALPHA:g}. {words.note}"
    if len(axes) == 2:
        titles = {"y_title": style.AXIS_NAMES[axes[0]], "x_title": style.AXIS_NAMES[axes[1]]}
        return heatmap(values, labels[axes[1]], labels[axes[0]], show=shown, **titles, **common)
    flat, shown = values.reshape(-1, values.shape[-1]), shown.reshape(-1, values.shape[-1])
    strength = np.nan_to_num(np.abs(style.largest_over_positions(flat)[0]), nan=-1.0)
    rows = np.argsort(-strength, kind="stable")[: style.STRONGEST]
    rows = np.sort(rows[strength[rows] >= 0])
    heads = [sweep.name((*np.unravel_index(row, values.shape[:-1]), 0)).split(" at ")[0] for row in rows]
    common["subtitle"] += f" · the {len(rows)} strongest of {len(flat)} heads"
    titles = {"y_title": "layer.head", "x_title": "position"}
    return heatmap(flat[rows], labels[axes[2]], heads, show=shown[rows], **titles, **common)


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
    limit: float | None = None,
    diverging: bool = True,
    show_values: bool = False,
    show: np.ndarray | None = None,
) -> Figure:
    """The still twin of `workbench.plotting.plotly_charts.heatmap`; `show` writes the values of some cells only."""
    top = style.limit(values) if limit is None else limit
    width = min(14.0, max(6.0, 2.6 + (0.62 if show_values else 0.36) * len(x)))
    slanted = style.is_crowded(x, width - 2)
    figure = _figure(
        width, min(12.0, max(3.6, 1.9 + (0.5 if show_values else 0.21) * len(y) + (0.7 if slanted else 0.0)))
    )
    axes = figure.subplots()
    from matplotlib import colormaps

    colours = colormaps[style.DIVERGING if diverging else style.SEQUENTIAL].with_extremes(bad=style.BLANK)
    image = axes.imshow(
        np.ma.masked_invalid(values),
        cmap=colours,
        vmin=-top if diverging else 0,
        vmax=top,
        aspect="auto",
        interpolation="nearest",
    )
    axes.set_xticks(np.arange(len(x) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(y) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(*style.sparse_ticks(x, 40), rotation=40 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(*style.sparse_ticks(y, 40))
    _write_values(axes, values, image, np.full(values.shape, show_values) if show is None else show)
    figure.colorbar(image, ax=axes, label=scale, fraction=0.05, pad=0.03).outline.set_visible(False)
    _label(figure, axes, title, subtitle, note, x_title, y_title)
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
    reference: np.ndarray | None = None,
    reference_name: str = "chance",
    bar_name: str = "",
) -> Figure:
    """The still twin of `workbench.plotting.plotly_charts.bars`."""
    width = min(14.0, max(6.0, 2 + 0.36 * len(names)))
    slanted = style.is_crowded(names, width - 1)
    figure = _figure(width, 4.6 if slanted else 4.0)
    axes, at = figure.subplots(), np.arange(len(names))
    known = np.isfinite(low) & np.isfinite(high)
    error = np.stack([values - low, high - values])[:, known].clip(min=0)
    axes.bar(at, np.nan_to_num(values), color=style.BAR, width=0.72, label=bar_name or None)
    axes.errorbar(at[known], values[known], yerr=error, fmt="none", ecolor="black", elinewidth=1, capsize=2)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(*style.sparse_ticks(names, 40), rotation=40 if slanted else 0, ha="right" if slanted else "center")
    axes.margins(x=0.02)
    axes.spines[["top", "right"]].set_visible(False)
    if reference is not None:
        axes.hlines(reference, at - 0.45, at + 0.45, color="black", linestyle="--", linewidth=1.2, label=reference_name)
        axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 1.12))
    _label(figure, axes, title, subtitle, note, x_title, scale)
    return figure


def png(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _write_values(axes: Any, values: np.ndarray, image: Any, show: np.ndarray) -> None:
    """The values of the cells where `show` is true, black on light and white on dark cells."""
    shades = image.cmap(image.norm(values))[..., :3] @ (0.299, 0.587, 0.114)
    for (row, column), value in np.ndenumerate(values):
        if show[row, column] and np.isfinite(value):
            colour = "white" if shades[row, column] < 0.5 else "black"
            axes.text(
                column,
                row,
                f"{value:.2f}".replace("-", "\N{MINUS SIGN}"),
                ha="center",
                va="center",
                fontsize=7,
                color=colour,
            )


def _label(figure: Any, axes: Any, title: str, subtitle: str, note: str, x_title: str, y_title: str) -> None:
    axes.set_xlabel(x_title)
    axes.set_ylabel(y_title)
    width = figure.get_figwidth()
    figure.suptitle(textwrap.fill(title, int(9 * width)), x=0.01, ha="left", fontsize=11, fontweight="bold")
    axes.set_title(textwrap.fill(subtitle, int(12 * (width - 0.8))), loc="left", fontsize=9, color="#444444")
    if note:
        figure.supxlabel(textwrap.fill(note, int(17 * width)), x=0.01, ha="left", fontsize=7.5, color="#555555")
