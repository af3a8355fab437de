"""The figures of the finding ``circuit-reuse``: the overlap matrix with its nulls, and the pairs with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.plotting import matplotlib_charts, plotly_charts

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure

#: A figure in both forms: interactive and still.
Both = tuple["Figure", "Picture"]


def matrix(
    overlaps: pd.DataFrame, tasks: Sequence[str], split_half: Mapping[str, float], *, model: str, n: int, percent: float
) -> Both:
    """Above the diagonal each pair's Jaccard index, below it the null's 95th percentile, on it the split halves."""
    at = {task: i for i, task in enumerate(tasks)}
    values = np.full((len(tasks), len(tasks)), np.nan)
    hover = np.full(values.shape, "no value", dtype=object)
    for task, i in at.items():
        values[i, i] = split_half.get(task, np.nan)
        hover[i, i] = f"<b>{task}</b><br>two halves of its prompts share {values[i, i]:.2f}"
    for row in overlaps.to_dict("records"):
        i, j = sorted((at[row["task_a"]], at[row["task_b"]]))
        values[i, j], values[j, i] = row["jaccard"], row["null_95"]
        text = (
            f"<b>{row['task_a']} with {row['task_b']}</b> ({row['pair']})<br>{row['shared']} of {row['union']} heads "
            f"shared: {row['jaccard']:.2f} [{row['low']:.2f}, {row['high']:.2f}]<br>layer-matched {row['null']:.2f}, "
            f"95 % below {row['null_95']:.2f}<br>p = {row['p_value']:.2g}, over the stages {row['stages']}"
        )
        hover[i, j] = hover[j, i] = text
    words: dict[str, Any] = {
        "title": f"Overlap of circuits · {model} · n = {n} a task",
        "subtitle": f"top {percent:g} % of heads a stage · above the diagonal: Jaccard index · below: 95th "
        "percentile of layer-matched random circuits · on it: two halves of the task's own prompts",
        "scale": "Jaccard index of the heads",
        "note": "Grey: no value. Only stages that both tasks have are compared.",
        "limit": 1.0,
        "diverging": False,
        "show_values": True,
    }
    return plotly_charts.heatmap(values, tasks, tasks, hover=hover, **words), matplotlib_charts.heatmap(
        values, tasks, tasks, **words
    )


def bars(overlaps: pd.DataFrame, *, model: str, n: int, percent: float) -> Both:
    """Each pair's overlap with its bootstrap interval, and its null's 95th percentile as a mark."""
    rows = [row for row in overlaps.to_dict("records") if np.isfinite(row["jaccard"])]
    names = [f"{row['task_a']} × {row['task_b']} ({row['pair']})" for row in rows]
    columns = {
        name: np.array([row[name] for row in rows], dtype=float) for name in ("jaccard", "low", "high", "null_95")
    }
    # Resampled indices can all lie below the observed one; the bar's whisker then starts at the bar.
    low, high = np.fmin(columns["low"], columns["jaccard"]), np.fmax(columns["high"], columns["jaccard"])
    words: dict[str, Any] = {
        "title": f"Overlap of pairs of tasks · {model} · n = {n} a task",
        "subtitle": f"top {percent:g} % of heads a stage · bootstrap over prompts, receivers as in the full sample",
        "scale": "Jaccard index of the heads",
        "note": "Near pairs first, then distant ones, then the rest: declared beforehand.",
        "reference": columns["null_95"],
        "reference_name": "95th percentile of layer-matched random circuits",
    }
    return (
        plotly_charts.bars(columns["jaccard"], low, high, names, **words),
        matplotlib_charts.bars(columns["jaccard"], low, high, names, **words),
    )


def damage(ablated: pd.DataFrame, tasks: Sequence[str], *, model: str, n: int, percent: float) -> Both:
    """Rows: whose circuit is ablated. Columns: the task that is measured. Damage beyond random heads of the layers."""
    at = {task: i for i, task in enumerate(tasks)}
    values = np.full((len(tasks), len(tasks)), np.nan)
    hover = np.full(values.shape, "no value", dtype=object)
    quantity = "beyond_random" if "beyond_random" in ablated else "damage"
    for row in ablated.to_dict("records"):
        where = at[row["ablated"]], at[row["measured"]]
        values[where] = row[quantity]
        hover[where] = (
            f"<b>{row['ablated']}'s circuit ablated, {row['measured']} measured</b><br>damage {row['damage']:.2f} "
            f"[{row['low']:.2f}, {row['high']:.2f}]"
        )
        if "random" in row:
            hover[where] += (
                f"<br>random heads of its layers {row['random']:.2f} ({row['random_low']:.2f} to "
                f"{row['random_high']:.2f})<br>beyond them {row['beyond_random']:.2f} [{row['beyond_low']:.2f}, "
                f"{row['beyond_high']:.2f}]"
            )
    what = "less that of random heads of the same layers" if quantity == "beyond_random" else "without a control"
    words: dict[str, Any] = {
        "title": f"Cross-task ablation · {model} · n = {n} a task",
        "subtitle": f"top {percent:g} % of heads a stage, ablated to their means at every position · damage: the share "
        f"of the logit difference that is lost, {what}",
        "scale": "share of the logit difference",
        "note": "Rows: the circuit that is ablated. Columns: the task that is measured. 1: nothing is left.",
        "x_title": "measured task",
        "y_title": "ablated circuit of",
        "show_values": True,
    }
    return plotly_charts.heatmap(values, tasks, tasks, hover=hover, **words), matplotlib_charts.heatmap(
        values, tasks, tasks, **words
    )
