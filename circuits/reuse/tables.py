"""The tables of the finding ``circuit-reuse``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbench import statistics
from workbench.findings.gate import Gate

from .. import overlap
from ..split_half import Halves
from ..stage_names import role_of
from ..stages import Stage, Stages
from .verdict import Decision, kind_of

#: The shares of heads a stage keeps, in per cent: the study's first, the others beside it.
MAIN, BESIDE = 2.0, (1.0, 2.0, 5.0, 10.0)
TASK_COLUMNS = ("split_half", "n_half", "bootstrap_jaccard", "stable", "stages", "left_out")
#: A circuit is called stable where resampled prompts give circuits that share so much (mean pairwise Jaccard index over
#: at least 100 resamples, as arXiv 2510.00845 proposes).
STABLE, RESAMPLES = 0.8, 100


def tasks(
    gates: Sequence[Gate],
    stages: Mapping[str, Stages],
    halves: Mapping[str, Halves | None],
    percent: float,
    seed: int = 0,
) -> pd.DataFrame:
    """One row a task: the gate, which stages were run, what the circuits of two halves of its prompts share, and what
    those of resampled prompts do (given the receivers)."""
    rows = []
    for gate in gates:
        whole = stages.get(gate.task)
        both = halves.get(gate.task)
        consistency = overlap.consistency(whole.scores, percent, RESAMPLES, seed) if whole else float("nan")
        left_out = "; ".join(f"{name}: {why}" for name, why in whole.left_out.items()) if whole else ""
        rows.append(
            dataclasses.asdict(gate)
            | {"split_half": both.jaccard(percent) if both else float("nan"), "n_half": both.n if both else 0}
            | {"bootstrap_jaccard": consistency, "stable": bool(consistency >= STABLE)}
            | {"stages": ", ".join(whole.done) if whole else "", "left_out": left_out}
        )
    return pd.DataFrame(rows, columns=[*(f.name for f in dataclasses.fields(Gate)), *TASK_COLUMNS])


def stage_rows(stage: Stage, percent: float, batch: int | None = None) -> list[dict[str, Any]]:
    """The top `percent` % senders of a stage, strongest first; with `batch` also the mean of the batches' ratios."""
    sweep, effect = stage.sweep, stage.effect
    low, high, p = sweep.effect_low, sweep.effect_high, sweep.p_value
    ratios = batch_ratios(stage, batch) if batch else None
    receivers = "logits" if stage.receivers is None else " ".join(map(str, stage.receivers))
    rows = []
    for rank, head in enumerate(sweep.top(percent=percent), start=1):
        at = (head.layer, head.index)
        rows.append(
            {
                "task": stage.task,
                "stage": stage.name,
                "rank": rank,
                "head": str(head),
                "layer": head.layer,
                "index": head.index,
                "role": role_of(stage.name, float(effect[at])),
                "mean_effect": float(effect[at]),
                "effect_low": float("nan") if low is None else float(low[at]),
                "effect_high": float("nan") if high is None else float(high[at]),
                "mean_delta": float(sweep.mean_delta[at]),
                "p_value": float(p[at]),
                "smallest_p": sweep.smallest_p_value,
                "n": sweep.n,
                "position": stage.position,
                "receivers": receivers,
            }
            | ({} if ratios is None else {"mean_of_batch_ratios": float(ratios[at])})
        )
    return rows


def batch_ratios(stage: Stage, batch: int) -> np.ndarray:
    """The study's average, ``[layer, head]``: each batch of consecutive prompts gives a ratio of means; their mean."""
    delta, gap = stage.sweep.delta, np.asarray(stage.sweep.gap)
    cuts = [slice(start, start + batch) for start in range(0, len(gap), batch)]
    return np.mean([delta[..., cut].mean(axis=-1) / gap[cut].mean() for cut in cuts], axis=0)


def heads(stages: Mapping[str, Stages], percent: float) -> pd.DataFrame:
    """The circuits: the top `percent` % heads of every stage and task, as `Circuit.from_run` reads them."""
    rows = [row | {"percent": percent, "in_circuit": True} for row in _all_stage_rows(stages, percent, None)]
    first = [
        "task",
        "stage",
        "head",
        "layer",
        "index",
        "role",
        "mean_effect",
        "effect_low",
        "effect_high",
        "rank",
        "p_value",
    ]
    return pd.DataFrame(rows, columns=[*first, "n", "percent", "in_circuit"])


def senders(stages: Mapping[str, Stages], batch: int | None = None) -> pd.DataFrame:
    """The table ``stages``: the top 10 % senders of every stage of every task."""
    return pd.DataFrame(_all_stage_rows(stages, max(BESIDE), batch))


def overlaps(stages: Mapping[str, Stages], pairs: Sequence[overlap.Pair], percent: float, seed: int) -> pd.DataFrame:
    """One row a pair of tasks at one share of heads. ``p_holm`` is corrected for the number of pairs (Holm 1979)."""
    rows = overlap.overlap_rows({task: whole.scores for task, whole in stages.items()}, percent, pairs, seed=seed)
    frame = pd.DataFrame(rows, columns=None if rows else OVERLAP_COLUMNS)
    frame["percent"] = percent
    frame["pair"] = [kind_of((row["task_a"], row["task_b"])) for row in rows]
    frame["p_holm"] = _holm(frame["p_value"].to_numpy(dtype=float)) if rows else []
    return frame


OVERLAP_COLUMNS = ["task_a", "task_b", "shared", "union", "jaccard", "null", "null_95", "p_value", "low", "high"]


def overlaps_of_each_stage(stages: Mapping[str, Stages], pairs: Sequence[overlap.Pair], percent: float) -> pd.DataFrame:
    """The overlap of each stage on its own, where both tasks have it (no intervals: the sets are a few heads each)."""
    rows = []
    for a, b in pairs:
        for stage in overlap.common_stages(stages[a].done, stages[b].done):
            one, two = (frozenset(overlap.top_heads(stages[task].scores[stage], percent)) for task in (a, b))
            null = overlap.layer_matched_null(one, two, stages[a].scores[stage].shape[1])
            rows.append(
                {
                    "task_a": a,
                    "task_b": b,
                    "stage": stage,
                    "shared": len(one & two),
                    "union": len(one | two),
                    "jaccard": overlap.jaccard(one, two),
                    "null": null.mean,
                    "null_95": null.percentile95,
                    "p_value": null.p_value,
                    "shared_heads": " ".join(map(str, sorted(one & two))),
                    "n_a": stages[a].done[stage].sweep.n,
                    "n_b": stages[b].done[stage].sweep.n,
                    "percent": percent,
                }
            )
    return pd.DataFrame(rows)


def summary(decision: Decision, gates: Sequence[Gate], n: int, percent: float) -> pd.DataFrame:
    """The numbers that the verdict follows from."""
    done, near, distant = sum(gate.passed for gate in gates), decision.near, decision.distant
    nan = float("nan")
    rows = [
        ("tasks done by this model", done, nan, nan),
        ("near pairs", near.pairs, nan, nan),
        ("distant pairs", distant.pairs, nan, nan),
        ("mean overlap of near pairs", *dataclasses.astuple(near.overlap)),
        ("mean overlap of distant pairs", *dataclasses.astuple(distant.overlap)),
        ("near pairs above their null's 95th percentile", len(decision.beyond), nan, nan),
        ("near pairs whose interval lies above it", len(decision.surely), nan, nan),
    ]
    frame = pd.DataFrame(rows, columns=["quantity", "value", "low", "high"])
    return frame.assign(verdict=decision.judgement.verdict, percent=percent, n=n)


def coinciding(total: int) -> str:
    """Which of the shares are the same number of `total` heads, in words; empty when none are."""
    counts: dict[int, list[str]] = {}
    for percent in BESIDE:
        counts.setdefault(statistics.top_count(percent, total), []).append(f"{percent:g} %")
    same = [f"{', '.join(names)} each keep {k} head{'s' * (k > 1)}" for k, names in counts.items() if len(names) > 1]
    return "; ".join(same)


def _all_stage_rows(stages: Mapping[str, Stages], percent: float, batch: int | None) -> list[dict[str, Any]]:
    done = [stage for whole in stages.values() for stage in whole.done.values()]
    return [row for stage in done for row in stage_rows(stage, percent, batch)]


def _holm(p: np.ndarray) -> np.ndarray:
    from statsmodels.stats.multitest import multipletests

    corrected, use = np.full(p.shape, np.nan), np.isfinite(p)
    if use.any():
        corrected[use] = multipletests(p[use], method="holm")[1]
    return corrected
