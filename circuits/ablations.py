"""Three ways of ablating each head on its own, side by side: tables, rank correlations and the heatmap."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from workbench import statistics
from workbench.core import Head
from workbench.findings import Quantity
from workbench.plotting.charts import Heatmap
from workbench.plotting.style import p_text
from workbench.results.sweep import Sweep

KINDS = ("zero", "mean", "resample")
#: Heads of the heatmap.
IN_CHART = 24
#: Two ablations → the rank correlation of the heads' changes.
Agreement = dict[tuple[str, str], Quantity]


def heads_table(sweeps: Mapping[str, Sweep]) -> pd.DataFrame:
    """A row a head: the change of the metric by each ablation, with interval and p-value."""
    first = next(iter(sweeps.values()))
    columns: dict[str, Any] = {name: first.table()[name] for name in ("layer", "head")}
    for kind, sweep in sweeps.items():
        numbers = {"": sweep.mean_delta, "_low": sweep.delta_low, "_high": sweep.delta_high, "_p": sweep.p_value}
        columns |= {f"{kind}{end}": values.ravel() for end, values in numbers.items()}
    return pd.DataFrame(columns).assign(n=first.n)


def rank_agreement(sweeps: Mapping[str, Sweep]) -> Agreement:
    """Spearman's correlation of the heads' changes under each two ablations."""
    result = {}
    for pair in combinations(KINDS, 2):
        rank = statistics.spearman(sweeps[pair[0]].mean_delta, sweeps[pair[1]].mean_delta)
        result[pair] = Quantity(rank.rho, rank.low, rank.high)
    return result


def agreement_table(sweeps: Mapping[str, Sweep], agreement: Agreement) -> pd.DataFrame:
    """A row for each two ablations: their rank correlation, and how many of the ten strongest heads they share."""
    rows = []
    for pair, rho in agreement.items():
        both_finite = np.isfinite([sweeps[kind].mean_delta for kind in pair]).all(axis=0)
        rows.append(
            {"first": pair[0], "second": pair[1]}
            | rho.columns("spearman", "")
            | {"of_top_10_shared": _shared(sweeps, pair), "heads": int(both_finite.sum()), "n": sweeps[pair[0]].n}
        )
    return pd.DataFrame(rows)


def in_words(sweeps: Mapping[str, Sweep], agreement: Agreement) -> list[str]:
    """Lines of the summary: the strongest heads of each ablation, and how far the ablations agree."""
    lines = ["", "Heads whose ablation changes the logit difference most (p corrected for the number of heads)"]
    for kind, sweep in sweeps.items():
        heads = [(head, (head.layer, head.index)) for head in sweep.top(6)]
        changes = [f"{head} ({sweep.mean_delta[at]:+z.2f}, p {p_text(sweep.p_value[at])})" for head, at in heads]
        lines.append(f"  {kind:<9} {', '.join(changes)}")
    lines += [
        "",
        "Agreement of the ablations (Spearman over all heads [95 % interval]; shared among the ten strongest)",
    ]
    for pair, rho in agreement.items():
        lines.append(f"  {pair[0]} with {pair[1]}: {rho}; {_shared(sweeps, pair)} of 10")
    return lines


def _shared(sweeps: Mapping[str, Sweep], pair: tuple[str, str]) -> int:
    """How many of the ten strongest heads two ablations share."""
    one, two = (set(sweeps[kind].top(10)) for kind in pair)
    return len(one & two)


def heatmap(sweeps: Mapping[str, Sweep], title: str) -> Heatmap:
    """The heads that matter most by any ablation, a row for each ablation."""
    changes = np.array([sweeps[kind].mean_delta for kind in KINDS])
    flat, labels = changes.reshape(len(KINDS), -1), [str(Head(i, j)) for i, j in np.ndindex(*changes.shape[1:])]
    order = np.argsort(-np.abs(flat).max(0), kind="stable")[:IN_CHART]
    return Heatmap(
        flat[:, order],
        [labels[i] for i in order],
        list(KINDS),
        title=f"{title} · n = {sweeps['mean'].n}",
        subtitle=f"the {IN_CHART} heads with the largest change under any ablation, ablated one by one at all "
        "positions",
        scale="change of the logit difference (logits)",
        x_title="layer.head",
        y_title="ablation",
        note="Grey: no value.",
    )
