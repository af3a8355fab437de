"""The charts of the finding ``circuit-reuse``: overlaps with their nulls, pairs with intervals, cross-ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from workbench.findings import Quantity
from workbench.io.tables import printed, true_minus
from workbench.plotting.charts import Bars, Heatmap


def matrix(
    overlaps: pd.DataFrame, tasks: Sequence[str], split_half: Mapping[str, float], *, model: str, n: int, percent: float
) -> Heatmap:
    """Above the diagonal each pair's Jaccard index, below it the null's 95th percentile, on it the split halves."""
    at = {task: i for i, task in enumerate(tasks)}
    values = np.full((len(tasks), len(tasks)), np.nan)
    hover = np.full(values.shape, "no value", dtype=object)
    for task, i in at.items():
        values[i, i] = split_half.get(task, np.nan)
        hover[i, i] = f"<b>{task}</b><br>circuits from two halves of its prompts: {values[i, i]:.2f}"
    for row in overlaps.to_dict("records"):
        i, j = sorted((at[row["task_a"]], at[row["task_b"]]))
        values[i, j], values[j, i] = row["jaccard"], row["null_95"]
        text = (
            f"<b>{row['task_a']} with {row['task_b']}</b> ({row['pair']})<br>{row['shared']} of {row['union']} heads "
            f"shared: {true_minus(Quantity(row['jaccard'], row['low'], row['high']))}<br>layer-matched null: mean "
            f"{row['null']:.2f}, 95th percentile {row['null_95']:.2f}<br>p = {row['p_value']:.2g}, over the stages "
            f"{row['stages']}"
        )
        hover[i, j] = hover[j, i] = text
    return Heatmap(
        values,
        tasks,
        tasks,
        hover=hover,
        title=f"Overlap of circuits · {model} · n = {n} per task",
        subtitle=f"top {percent:g} % of heads per stage · above the diagonal: Jaccard index · below: 95th "
        "percentile of layer-matched random circuits · on it: circuits from two halves of the task's own prompts",
        scale="overlap (Jaccard index of the heads)",
        note="Grey: no value. Only stages that both tasks have are compared.",
        x_title="task",
        y_title="task",
        limit=1.0,
        diverging=False,
        show_values=True,
    )


def bars(overlaps: pd.DataFrame, *, model: str, n: int, percent: float) -> Bars:
    """Each pair's overlap with its bootstrap interval, and its null's 95th percentile as a mark."""
    rows = [row for row in overlaps.to_dict("records") if np.isfinite(row["jaccard"])]
    names = [f"{row['task_a']} × {row['task_b']} ({row['pair']})" for row in rows]
    columns = {
        name: np.array([row[name] for row in rows], dtype=float) for name in ("jaccard", "low", "high", "null_95")
    }
    # Resampled indices can all lie below the observed one; the bar's whisker then starts at the bar.
    low, high = np.fmin(columns["low"], columns["jaccard"]), np.fmax(columns["high"], columns["jaccard"])
    return Bars(
        columns["jaccard"],
        low,
        high,
        names,
        title=f"Overlap of pairs of tasks · {model} · n = {n} per task",
        subtitle=f"top {percent:g} % of heads per stage · 95 % bootstrap intervals over prompts, with the receivers "
        "of the full sample",
        scale="overlap (Jaccard index of the heads)",
        note="Near pairs first, then distant ones, then the rest, as declared beforehand.",
        reference=columns["null_95"],
        reference_name="95th percentile of layer-matched random circuits",
    )


def damage(ablated: pd.DataFrame, tasks: Sequence[str], *, model: str, n: int, percent: float) -> Heatmap:
    """Rows: whose circuit is ablated. Columns: the task that is measured. Damage beyond random heads of the layers."""
    at = {task: i for i, task in enumerate(tasks)}
    values = np.full((len(tasks), len(tasks)), np.nan)
    hover = np.full(values.shape, "no value", dtype=object)
    quantity = "beyond_random" if "beyond_random" in ablated else "damage"
    for row in ablated.to_dict("records"):
        where = at[row["ablated"]], at[row["measured"]]
        values[where] = row[quantity]
        hover[where] = (
            f"<b>{row['ablated']}'s circuit ablated, {row['measured']} measured</b><br>damage "
            f"{true_minus(Quantity(row['damage'], row['low'], row['high']))}"
        )
        if np.isfinite(row.get("random", np.nan)):
            random, low, high = (printed(row[name], ".2f") for name in ("random", "random_low", "random_high"))
            hover[where] += (
                f"<br>random heads of its layers {random} ({low} to {high})<br>damage beyond them "
                f"{true_minus(Quantity(row['beyond_random'], row['beyond_low'], row['beyond_high']))}"
            )
    what = "minus that of random heads of the same layers" if quantity == "beyond_random" else "without a control"
    return Heatmap(
        values,
        tasks,
        tasks,
        hover=hover,
        title=f"Cross-task ablation · {model} · n = {n} per task",
        subtitle=f"top {percent:g} % of heads per stage, ablated to their means at every position · damage: the share "
        f"of the logit difference that is lost, {what}",
        scale="share of the logit difference lost",
        note="Rows: the circuit that is ablated. Columns: the task that is measured. 1: nothing is left.",
        x_title="measured task",
        y_title="ablated circuit of",
        show_values=True,
    )
