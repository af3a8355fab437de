"""What interactive and still figures have in common: colours, scales, a sweep's words, and which cells are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import at_positions, base_or_direction, full_name, in_steps
from workbench.example_names import examples_of, task_of
from workbench.io.tables import printed
from workbench.plotting.source import Source

if TYPE_CHECKING:
    from workbench.plotting.charts import Regression
    from workbench.results.sweep import Sweep

#: ColorBrewer's red–blue: diverging, readable with the common colour-vision deficiencies; its middle means 0.
DIVERGING = "RdBu_r"
#: Even in brightness, readable with colour-vision deficiencies, and free of grey; for quantities that start at 0.
SEQUENTIAL = "viridis"
BLANK = "#b9b9b9"
BAR = "#33658a"
#: Of reference marks: seen on the bars, and on light and dark pages.
MARK = "#d55e00"
#: Of lines and groups, told apart with the common colour-vision deficiencies (Okabe & Ito 2008).
PALETTE = (BAR, MARK, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
#: Of points, so that they are told apart without colours: matplotlib's and Plotly's names.
SYMBOLS = (
    ("o", "circle"),
    ("s", "square"),
    ("^", "triangle-up"),
    ("D", "diamond"),
    ("v", "triangle-down"),
    ("P", "cross"),
    ("X", "x"),
)
#: Opacity of a band around a line.
FAINT = 0.18
#: Of intervals: seen on light and dark pages.
WHISKER = "#8a8a8a"
AXIS_NAMES: Mapping[str, str] = {
    "set": "set of edits",
    "step": "sampling step",
    "layer": "layer",
    "head": "head",
    "kv_head": "key/value head",
    "position": "position",
}
#: Still pictures write the value into at most this many of the strongest cells with a corrected p-value up to `ALPHA`.
NAMED, ALPHA = 12, 0.05
#: A picture of layer × head × position shows this many heads where there are more than `ALL`.
STRONGEST, ALL = 20, 40


@dataclass(frozen=True)
class ChartText:
    """Texts around a figure. Every line says something that a reader needs to judge the numbers."""

    title: str
    subtitle: str
    scale: str
    note: str
    source: Source | None = None

    def with_note(self, note: str) -> ChartText:
        """The same with another note."""
        return replace(self, note=note)


def chart_text(sweep: Sweep, quantity: str) -> ChartText:
    """Title (model, task, n), subtitle (edit, site, direction, metric), the scale with its units, and a footnote."""
    info = sweep.info
    model = full_name(info.get("model") or "", info.get("operators"))
    title = " · ".join([*filter(None, (model, task_of(info))), f"n = {sweep.n}"])
    least = sweep.smallest_p_value
    note = f"p-values are corrected for the number of cells; the smallest possible p is {least:.2g}."
    if least > ALPHA:
        do = f"use more {examples_of(info)}"
        note = f"With n = {sweep.n} no cell can have p ≤ {ALPHA:g}, whatever its interval: {do}. {note}"
    if not np.isfinite(sweep.mean_delta).all() and len(sweep.axes) > 1:
        note = f"Grey: no value. {note}"
    return ChartText(title, _subtitle(sweep), _scale(info, quantity), note, Source.of_info(info))


def limit(values: np.ndarray) -> float:
    """Half-width of a scale centred on 0 that holds all finite values (1 where there is nothing to see)."""
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max()) if finite.size and finite.max() > 0 else 1.0


def interval(sweep: Sweep, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % interval of the quantity drawn."""
    ends = (sweep.effect_low, sweep.effect_high) if quantity == "effect" else (sweep.delta_low, sweep.delta_high)
    return np.asarray(ends[0]), np.asarray(ends[1])


def hover(sweep: Sweep, quantity: str) -> np.ndarray:
    """The text of every cell, as HTML lines: name, value with interval, p-value. Blank cells say so."""
    words, texts = cell_words(sweep, quantity), np.empty(sweep.mean_delta.shape, dtype=object)
    for index, _ in sweep.cells():
        texts[index] = "<br>".join([f"<b>{sweep.name(index)}</b>", *words[index]])
    return texts


def cell_words(sweep: Sweep, quantity: str) -> np.ndarray:
    """The numbers of every cell, as a tuple of texts: value, interval, p-value. Blank cells say so."""
    values, (low, high), p = getattr(sweep, quantity), interval(sweep, quantity), sweep.p_value
    label = quantity.replace("_", " ")
    words = np.empty(values.shape, dtype=object)
    for index in np.ndindex(*values.shape):
        numbers = (
            f"{label} {printed(float(values[index]), '.4g')}",
            f"95 % [{printed(float(low[index]))}, {printed(float(high[index]))}]",
            f"p = {p_text(float(p[index]))}",
        )
        words[index] = numbers if np.isfinite(values[index]) else ("no value",)
    return words


def p_text(p: float) -> str:
    """A p-value with two significant digits, three where two would put it on the other side of `ALPHA`."""
    text = f"{p:.2g}"
    return text if (float(text) <= ALPHA) == (p <= ALPHA) else f"{p:.3g}"


def largest_over_positions(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Along the last axis, the entry with the largest magnitude (sign kept) and where it is; blank rows stay blank."""
    where = np.where(np.isfinite(values), np.abs(values), -1.0).argmax(axis=-1)
    return np.take_along_axis(values, where[..., None], axis=-1)[..., 0], where


def strongest_cells(sweep: Sweep) -> np.ndarray:
    """Mask of the at most `NAMED` cells with the largest |mean delta| whose corrected p-value is at most `ALPHA`."""
    sure = np.nan_to_num(sweep.p_value, nan=1.0) <= ALPHA
    score = np.where(sure, np.nan_to_num(sweep.ranking()), -1.0)
    mask = np.zeros(score.size, dtype=bool)
    mask[np.argsort(-score, axis=None, kind="stable")[:NAMED]] = True
    return mask.reshape(score.shape) & sure


def colour(index: int) -> str:
    """The colour of the line or group at that place."""
    return PALETTE[index % len(PALETTE)]


def symbol(index: int) -> tuple[str, str]:
    """The marker of the series at that place, of matplotlib and of Plotly."""
    return SYMBOLS[index % len(SYMBOLS)]


def faint(colour: str) -> str:
    """A colour as CSS, at the opacity of bands."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{FAINT})"


def regression_text(line: Regression, log: bool = False) -> str:
    """What the legend calls a regression line; `log` where it is that of logarithms."""
    if log:
        return f"slope {printed(line.slope, '.2f')}, r = {printed(line.correlation, '.2f')} (of the logarithms)"
    sign = "+" if line.slope >= 0 else "−"
    return f"y = {printed(line.intercept)} {sign} {abs(line.slope):.3g} x, r = {printed(line.correlation, '.2f')}"


def is_crowded(names: Sequence[str], inches: float) -> bool:
    """Whether the names would touch each other on an axis so long."""
    return max(map(len, names), default=0) * 0.1 > inches / max(len(names), 1)


def sparse_ticks(names: Sequence[str], at_most: int) -> tuple[list[int], list[str]]:
    """Every k-th index and name, so that no more than `at_most` are written along an axis."""
    step = -(-len(names) // at_most)
    return list(range(0, len(names), step)), list(names[::step])


def _subtitle(sweep: Sweep) -> str:
    info = sweep.info
    site, edit = info.get("site", ""), str(info.get("edit", "edit"))
    if info.get("into"):
        receivers = info.get("receivers") or "logits"
        names = "the logits" if receivers == "logits" else f"{info['into']} of {_listed(receivers, ', ')}"
        what = f"path patching of {site} into {names}"
    else:
        by = f" by {_listed(info['by'])}" if info.get("by") else ""
        what = " ".join(filter(None, [edit, site])) + at_positions(info, sweep.axes) + by
    direction = base_or_direction(info, sweep.source is not None)
    label = "base" if direction.endswith("run") else "direction"
    direction = f"{label}: {direction}" if direction else ""
    return " · ".join(
        filter(None, [what, in_steps(info, sweep.axes), direction, str(info.get("metric", "")).replace("_", " ")])
    )


def _scale(info: Mapping[str, Any], quantity: str) -> str:
    metric = str(info.get("metric", "metric")).replace("_", " ")
    if quantity == "mean_delta":
        units = f" ({info['units']})" if info.get("units") else ""
        return f"mean change of {metric}{units}"
    base, source = ("clean", "corrupt") if info.get("direction") == "noise" else ("corrupt", "clean")
    return f"effect (0 = {base} run, 1 = {source} run)"


def _listed(names: Any, between: str = " × ") -> str:
    return names if isinstance(names, str) else between.join(map(str, names))
