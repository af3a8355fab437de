"""Which pairs of tasks are compared, what is expected of them, and the verdict that follows from the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.findings import Verdict

from ..overlap import Pair, group_mean, interval

# Declared before any number was seen; `Task.relation` is not asked, so that a new task cannot change the verdict.
IOI = "ioi"
RELATIVES = ("remaining-name", "answered-by", "surname-recall", "password-copying")
DISTANT = ("subject-verb-agreement", "gendered-pronoun", "capital-of-country")
#: The study's own second task. Its pairs are shown and take no part in the verdict.
STUDY = "colored-objects"
TASKS = (IOI, *RELATIVES, *DISTANT, STUDY)


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
    """The mean overlap of a group of pairs, with its 95 % bootstrap interval over prompts."""

    pairs: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Decision:
    """The verdict with what it follows from.

    Attributes:
        beyond: near pairs whose overlap lies above the 95th percentile of their layer-matched null.
        surely: those of them whose 95 % interval does so as a whole.
    """

    verdict: Verdict
    reason: str
    near: Group
    distant: Group
    beyond: tuple[Pair, ...]
    surely: tuple[Pair, ...]


def decide(rows: Sequence[Mapping[str, Any]], resampled: Mapping[Pair, Float[np.ndarray, " resample"]]) -> Decision:
    """The contract's rule on the rows of the overlap table and the resampled indices behind them.

    Supported: the interval of at least one near pair lies above the 95th percentile of its null, and the interval of
    the near pairs' mean lies wholly above that of the distant pairs' mean. Not supported: no near pair lies above its
    null's 95th percentile, or the near pairs' interval lies wholly below. Undecided: the rest.
    """
    of_kind = {kind: [row for row in rows if kind_of(_pair(row)) == kind] for kind in ("near", "distant")}
    near, distant = (_group(of_kind[kind], resampled) for kind in ("near", "distant"))
    beyond = tuple(_pair(row) for row in of_kind["near"] if row["jaccard"] > row["null_95"])
    surely = tuple(
        _pair(row) for row in of_kind["near"] if row["low"] > row["null_95"] and row["jaccard"] > row["null_95"]
    )
    apart, below = near.low > distant.high, near.high < distant.low

    def decision(verdict: Verdict, reason: str) -> Decision:
        return Decision(verdict, reason, near, distant, beyond, surely)

    if not near.pairs:
        return decision(
            "undecided", "no two tasks of the IOI family passed the gate, so there is no near pair to judge"
        )
    if not beyond:
        return decision("not supported", "no near pair shares more heads than 95 % of layer-matched random circuits do")
    if not distant.pairs:
        return decision(
            "undecided", "no distant task passed the gate, so the near pairs have nothing to be compared with"
        )
    if below:
        return decision(
            "not supported", "the near pairs share fewer heads than the distant pairs, their intervals apart"
        )
    if apart and surely:
        return decision(
            "supported",
            "near pairs share more heads than layer-matched random circuits and than distant pairs, intervals apart",
        )
    missing = [] if surely else ["no near pair's whole interval lies above its null's 95th percentile"]
    missing += [] if apart else ["the intervals of the near and the distant pairs' means are not apart"]
    return decision("undecided", " and ".join(missing))


def on_part(decision: Decision, run: Sequence[str]) -> Decision:
    """A decision on some of the declared tasks only: the claim speaks of all of them, so it stays undecided."""
    left_out = [task for task in (IOI, *RELATIVES, *DISTANT) if task not in run]
    if not left_out or decision.verdict == "undecided":
        return decision
    reason = (
        f"on the tasks that were run the claim would be {decision.verdict} ({decision.reason}), and it speaks of "
        f"{', '.join(left_out)} as well, which were left out"
    )
    return replace(decision, verdict="undecided", reason=reason)


def _pair(row: Mapping[str, Any]) -> Pair:
    return (row["task_a"], row["task_b"])


def _group(rows: Sequence[Mapping[str, Any]], resampled: Mapping[Pair, Float[np.ndarray, " resample"]]) -> Group:
    nan = float("nan")
    # Pairs without a common stage have no overlap, those of single-prompt tasks no interval.
    rows = [row for row in rows if np.isfinite(row["jaccard"])]
    if not rows:
        return Group(0, nan, nan, nan)
    low, high = interval(group_mean(resampled, [_pair(row) for row in rows]))
    return Group(len(rows), float(np.mean([row["jaccard"] for row in rows])), low, high)
