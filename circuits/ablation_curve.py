"""How the metric falls when heads are mean-ablated together: the most relevant first, the least first, at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

import workbench as wb
from workbench import statistics
from workbench.core import Head
from workbench.findings import Quantity, Study
from workbench.inputs.paired import PairedInputs
from workbench.plotting.charts import Line, Lines
from workbench.results.sweep import Sweep

MOST, LEAST, RANDOM = "most relevant first", "least relevant first", "random order"


@dataclass(frozen=True)
class AblationCurve:
    """What is left of the metric after mean-ablating the first k heads of each order.

    Attributes:
        table: a row for each order and k; ``left`` is a share of the unedited metric.
        area: between the least-first and the most-first curve, averaged over log k, as a share of the metric.
    """

    table: pd.DataFrame
    area: Quantity

    def in_words(self) -> list[str]:
        """Lines of the summary; the random orders are averaged."""
        lines = ["", "What is left of the logit difference after mean-ablating the first k heads together (k: share)"]
        for order in (MOST, LEAST, RANDOM):
            rows = self.table[self.table["order"].str.startswith(order)]
            means = {k: rows["left"][rows["heads"] == k].mean() for k in dict.fromkeys(rows["heads"])}
            cells = ", ".join(f"{k}: {left:z.2f}" for k, left in means.items())
            lines.append(f"  {order:<22} {cells or 'none was measured'}")
        area = f"{self.area} of the logit difference"
        return [*lines, f"  Area between least first and most first, over log k: {area}."]

    def chart(self, title: str) -> Lines:
        """The curves, each with its interval over prompts."""
        columns = ("heads", "left", "low", "high")
        rows = self.table.groupby("order", sort=False)
        return Lines(
            {str(order): Line(*(part[column].to_numpy(float) for column in columns)) for order, part in rows},
            title=f"{title} · n = {self.table['n'].iloc[0]}",
            subtitle="the first k heads of each order ablated to their means at every position",
            x_title="k, number of heads ablated (log scale)",
            y_title="share of the logit difference that is left",
            note="Bands: 95 % bootstrap intervals over prompts.",
            log_x=True,
        )


def orders(drop: np.ndarray, random_orders: int, seed: int) -> dict[str, list[Head]]:
    """The heads in the order of their relevance, in the opposite one, and at random.

    Args:
        drop: how far the metric falls without each head, ``[layer, head]``.
    """
    heads = [Head(layer, index) for layer, index in np.ndindex(*drop.shape)]
    ranking = np.argsort(-drop.ravel(), kind="stable")
    result = {MOST: [heads[i] for i in ranking], LEAST: [heads[i] for i in ranking[::-1]]}
    rng = np.random.default_rng(seed)
    for k in range(random_orders):
        result[f"{RANDOM} {k}"] = [heads[i] for i in rng.permutation(len(heads))]
    return result


def ablation_curve(
    study: Study, pairs: PairedInputs, reference: PairedInputs, ranking: Sweep, points: int, random_orders: int
) -> AblationCurve:
    """Measure the curves on prompts that the heads were not ranked on.

    Args:
        reference: prompts that the means are taken over.
        ranking: a sweep that ablates one head at a time.
        points: how many k between 1 and all heads, evenly in log k.
    """
    drop = -ranking.mean_delta
    counts = np.unique(np.round(np.geomspace(1, drop.size, points)).astype(int))
    labels = {
        f"{order}|{k}": (order, int(k), heads[:k])
        for order, heads in orders(drop, random_orders, study.seed).items()
        for k in counts
    }
    sets = {label: heads for label, (_, _, heads) in labels.items()}
    sweep = wb.sweep_sets(study.model, pairs, sets, mean_over=reference, progress=study.step("ablating heads together"))
    values = dict(zip(sweep.labels["set"], sweep.values, strict=True))
    rows = []
    for label, (order, k, _) in labels.items():
        left = _share(values[label], sweep.base).columns("left", "")
        rows.append({"order": order, "heads": k, **left, "n": sweep.n, "share_of_heads": k / drop.size})
    area = _area(values, counts, sweep.base)
    return AblationCurve(pd.DataFrame(rows).assign(**area.columns("area")), area)


def _area(values: Mapping[str, np.ndarray], counts: np.ndarray, base: np.ndarray) -> Quantity:
    """The area between the least-first and the most-first curve over log k, with its interval over prompts."""
    least, most = (np.array([values[f"{order}|{k}"] for k in counts]) for order in (LEAST, MOST))
    weights = np.gradient(np.log(counts)) if len(counts) > 1 else np.ones(1)
    return _share((weights / weights.sum()) @ (least - most), base)


def _share(part: np.ndarray, base: np.ndarray) -> Quantity:
    """``mean(part) / mean(base)``. Its value stands even where the interval of ``mean(base)`` holds 0."""
    interval = statistics.ratio_interval(part, base)
    return Quantity(float(part.mean() / base.mean()), float(interval.low), float(interval.high))
