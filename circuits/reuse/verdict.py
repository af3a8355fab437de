"""Which pairs of tasks are compared, what is expected of them, and the verdict that follows from the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.findings import Judgement, Quantity, Threshold, judge

from ..overlap import Pair, group_mean, interval

# Declared before any number was seen; `Task.relation` is not used, so that a new task cannot change the verdict.
IOI = "ioi"
RELATIVES = ("remaining-name", "answered-by", "surname-recall", "password-copying")
DISTANT = ("subject-verb-agreement", "gendered-pronoun", "capital-of-country")
#: The study's own second task. Its pairs are reported and take no part in the verdict.
STUDY = "colored-objects"
TASKS = (IOI, *RELATIVES, *DISTANT, STUDY)

THRESHOLDS = {
    "beyond": Threshold(
        "near pairs that share more heads than 95 % of layer-matched random circuits do",
        at_least=1,
        refuted_by="value",
        detail="with the whole 95 % interval; refuted where no pair does with its value",
    ),
    "apart": Threshold(
        "the near pairs' mean overlap",
        above="the distant pairs' mean overlap",
        detail="the upper end of its interval; refuted where the near pairs' interval lies below the distant pairs'",
    ),
}


def kind_of(pair: Pair) -> str:
    """``near``: IOI and its relatives; ``distant``: one of these with a distant task; ``other``: the rest."""
    near = [task in (IOI, *RELATIVES) for task in pair]
    distant = [task in DISTANT for task in pair]
    if all(near):
        return "near"
    return "distant" if any(near) and any(distant) else "other"


def pairs_of(tasks: Sequence[str]) -> list[Pair]:
    """All pairs: near ones first, then distant ones, then the rest."""
    kinds = ("near", "distant", "other")
    return sorted(combinations(tasks, 2), key=lambda pair: kinds.index(kind_of(pair)))


@dataclass(frozen=True)
class Group:
    """A group of `pairs` pairs of tasks: their mean overlap, with its 95 % bootstrap interval over prompts."""

    pairs: int
    overlap: Quantity


@dataclass(frozen=True)
class Decision:
    """The judgement with what it follows from.

    Attributes:
        beyond: near pairs whose overlap lies above the 95th percentile of their layer-matched null.
        surely: those of them whose 95 % interval does so as a whole.
    """

    judgement: Judgement
    near: Group
    distant: Group
    beyond: tuple[Pair, ...]
    surely: tuple[Pair, ...]


def decide(rows: Sequence[Mapping[str, Any]], resampled: Mapping[Pair, Float[np.ndarray, " resample"]]) -> Decision:
    """The rule of `THRESHOLDS` on the rows of the overlap table and the resampled indices behind them.

    Where there are no near pairs, or no distant ones to compare them with, the claim is undecided.
    """
    of_kind = {kind: [row for row in rows if kind_of(_pair(row)) == kind] for kind in ("near", "distant")}
    near, distant = (_group(of_kind[kind], resampled) for kind in ("near", "distant"))
    above = [row for row in of_kind["near"] if row["jaccard"] > row["null_95"]]
    beyond = tuple(_pair(row) for row in above)
    surely = tuple(_pair(row) for row in above if row["low"] > row["null_95"])
    if not near.pairs:
        reason = "no two tasks of the IOI family passed the gate, so there is no near pair to judge"
        judgement = Judgement("undecided", reason)
    elif beyond and not distant.pairs:
        reason = "no distant task passed the gate, so the near pairs have nothing to be compared with"
        judgement = Judgement("undecided", reason)
    else:
        count = Quantity(len(beyond), len(surely), len(beyond))
        judgement = judge(THRESHOLDS, beyond=count, apart=(near.overlap, distant.overlap))
    return Decision(judgement, near, distant, beyond, surely)


def on_part(decision: Decision, tasks: Sequence[str]) -> Decision:
    """A decision on some of the declared tasks only: the claim is about all of them, so it stays undecided."""
    left_out = [task for task in (IOI, *RELATIVES, *DISTANT) if task not in tasks]
    judgement = decision.judgement
    if not left_out or judgement.verdict == "undecided":
        return decision
    reason = (
        f"on the tasks that were run the claim would be {judgement.verdict} ({judgement.reason}), and it is about "
        f"{', '.join(left_out)} as well, which were left out"
    )
    return replace(decision, judgement=Judgement("undecided", reason))


def _pair(row: Mapping[str, Any]) -> Pair:
    return (row["task_a"], row["task_b"])


def _group(rows: Sequence[Mapping[str, Any]], resampled: Mapping[Pair, Float[np.ndarray, " resample"]]) -> Group:
    # Pairs without a common stage have no overlap, those of single-prompt tasks no interval.
    rows = [row for row in rows if np.isfinite(row["jaccard"])]
    if not rows:
        return Group(0, Quantity(float("nan")))
    low, high = interval(group_mean(resampled, [_pair(row) for row in rows]))
    return Group(len(rows), Quantity(float(np.mean([row["jaccard"] for row in rows])), low, high))
