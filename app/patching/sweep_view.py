"""A finished sweep in the page: the grid or heatmap, intervals and p-values, downloads, and the strongest cells."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

import workbench as wb
from app import url_widgets
from app.components.head_grid import head_grid
from app.downloadable import DPI, PLOTLY_CONFIG, download_buttons
from app.messages import escape_markdown
from app.plotly_text import escape_title
from app.work.sweep_results import by_head, edits_of
from workbench import statistics
from workbench.core import Head
from workbench.io.tables import printed
from workbench.plotting import matplotlib_charts, style
from workbench.plotting.source import Source
from workbench.results.sweep import Sweep

LARGEST_OVER_POSITIONS = "largest over positions"
#: The metric whose sign says whether the model prefers the answer.
LOGIT_DIFFERENCE = "logit_difference"


@dataclass(frozen=True, eq=False)
class SweepDownload:
    """The downloads of a sweep: the object that is shown."""

    sweep: Sweep

    @property
    def source(self) -> Source:
        """With the edits and the metric, which stand in a picture's subtitle."""
        return replace(Source.of_info(self.sweep.info), edited=edits_of(self.sweep))

    @property
    def units(self) -> str:
        """What the columns of the CSV are measured in."""
        sweep = self.sweep
        means = ", ".join(["mean_delta", *(f"{baseline.run}_mean" for baseline in sweep.baselines)])
        metric = str(sweep.info.get("metric", "the metric")).replace("_", " ")
        units = sweep.info.get("units")
        parts = [f"{means}: {metric}" + (f" in {units}" if units not in (None, "", metric) else "")]
        if sweep.effect is not None:
            scale = style.chart_text(sweep, "effect").scale
            parts.append(f"effect: {scale.removeprefix('effect (').removesuffix(')')}")
        return "; ".join([*parts, "low, high: 95 % interval"])

    def image(self, ending: str) -> bytes:
        """As ``png`` or ``svg``."""
        return matplotlib_charts.image(self.sweep.picture(), ending, DPI)

    def csv(self) -> bytes:
        """One row per cell, with intervals and p-values, the runs without edits beside each, and the units."""
        table = self.sweep.table()
        for baseline in self.sweep.baselines:
            table = table.assign(**baseline.columns())
        return self.source.csv(table.assign(units=self.units))

    def json(self) -> bytes:
        """Everything but the values per example."""
        return json.dumps({**self.sweep.json(), **self.source.fields()}, ensure_ascii=False).encode()


def show_sweep(
    sweep: wb.Sweep, selected: Head, marked: frozenset[Head], on_pick: Callable[[Head], None], group: int = 1
) -> None:
    """The grid of a sweep by head, or the heatmap of another, with its notes and downloads.

    Args:
        group: how many heads share one key/value head; a click on that selects the first of them.
    """
    quantity = sweep.quantity(None)
    labels = style.chart_text(sweep, quantity)
    st.caption(escape_markdown(sweep.baseline_note))
    if {"head", "kv_head"} & set(sweep.axes):
        _grid(sweep, quantity, labels, selected, marked, on_pick, group)
    else:
        st.plotly_chart(escape_title(sweep.figure()), key="sweep-figure", config=PLOTLY_CONFIG)
    st.caption(labels.note)
    if sweep.effect_note:
        st.caption(sweep.effect_note)
    download_buttons(SweepDownload(sweep), "sweep", "sweep")


def show_heads(model: Any, selected: Head, marked: frozenset[Head], on_pick: Callable[[Head], None]) -> None:
    """The grid of all heads without values, before there is a sweep."""
    head_grid(
        np.full((model.n_layers, model.n_heads), np.nan),
        title="All heads",
        note="No values yet: run the sweep. Frames are the heads of the set, which can be edited without a sweep.",
        units="",
        selected=selected,
        marked=marked,
        on_pick=on_pick,
        key="sweep-grid",
    )


def strongest_table(sweep: wb.Sweep, k: int = 8) -> pd.DataFrame:
    """The cells with the largest mean change, with intervals and p-values."""
    quantity = sweep.quantity(None)
    order = np.argsort(np.nan_to_num(-sweep.ranking(), nan=np.inf), axis=None, kind="stable")[:k]
    low, high = style.interval(sweep, quantity)
    values, p = getattr(sweep, quantity), sweep.p_value
    cells = [tuple(map(int, np.unravel_index(flat, values.shape))) for flat in order]
    rows = [(sweep.name(c), values[c], low[c], high[c], p[c]) for c in cells if np.isfinite(values[c])]
    return pd.DataFrame(rows, columns=["cell", quantity.replace("_", " "), "95 % low", "95 % high", "p"])


def task_warning(sweep: wb.Sweep, denoise: bool) -> str:
    """A line that says that the model does not do the task, or may not; empty where it does, or for another metric.

    It does the task where the 95 % interval of the mean logit difference of the clean prompts is above 0.

    Args:
        denoise: whether the clean run is the source of the patches, and not the base.
    """
    clean = sweep.source if denoise else sweep.base
    if sweep.info.get("metric") != LOGIT_DIFFERENCE or clean is None:
        return ""
    return _task_warning(tuple(np.asarray(clean, dtype=float).tolist()))


@lru_cache(maxsize=8)
def _task_warning(clean: tuple[float, ...]) -> str:
    values = np.array(clean)
    interval = statistics.mean_interval(values[None]) if len(values) > 1 else None
    low, high = (float(interval.low[0]), float(interval.high[0])) if interval else (values[0], values[0])
    if not low <= 0:
        return ""
    bounds = f" [{printed(low)}, {printed(high)}]" if interval else ""
    number = f"the mean logit difference of the clean prompts is {printed(float(values.mean()))}{bounds}"
    if values.mean() > 0:
        return f"The model may not be able to do this task: {number}, and the interval includes 0. Use more prompts."
    return f"The model cannot do this task: {number}, not above 0. Effects of heads then mean little."


def _grid(
    sweep: wb.Sweep,
    quantity: str,
    labels: style.ChartText,
    selected: Head,
    marked: frozenset[Head],
    on_pick: Callable[[Head], None],
    group: int,
) -> None:
    at = None
    if "position" in sweep.axes:
        position = url_widgets.select("Position shown", [LARGEST_OVER_POSITIONS, *sweep.labels["position"]], "at")
        at = None if position == LARGEST_OVER_POSITIONS else position
    values, texts, _ = by_head(sweep, quantity, at)
    is_kv = "kv_head" in sweep.axes
    if is_kv and group > 1:
        texts = np.array(
            [[_with_group(i, j, group, text) for j, text in enumerate(row)] for i, row in enumerate(texts)]
        )
        st.caption(f"Rows are key/value heads, each shared by {group} heads. A click selects the first of them.")

    def pick_first_of_group(head: Head) -> None:
        on_pick(Head(head.layer, head.index * group))

    head_grid(
        values,
        title=labels.subtitle[:1].upper() + labels.subtitle[1:],
        note=labels.title,
        units=labels.scale,
        texts=texts,
        selected=Head(selected.layer, selected.index // group) if is_kv else selected,
        marked=frozenset() if is_kv else marked,
        on_pick=pick_first_of_group if is_kv else on_pick,
        key="sweep-grid",
        shared=is_kv,
    )


def _with_group(layer: int, kv_head: int, group: int, text: str) -> str:
    first, last = Head(layer, kv_head * group), Head(layer, (kv_head + 1) * group - 1)
    return f"{text}; shared by heads {first} to {last}"
