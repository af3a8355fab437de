"""Whether a model does a task at all: only then is there a circuit to look for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench import statistics
from workbench.inputs.paired import PairedInputs
from workbench.patching.metric import Example
from workbench.registry import METRICS

#: Prompts of one length in a forward.
BATCH = 8
DONE, NOT_DONE, NO_INPUTS = "done", "not done by this model", "does not apply"
#: Of so few prompts that even without a mistake the interval would reach down to chance.
TOO_FEW = "undecided with so few prompts"


@dataclass(frozen=True)
class Gate:
    """How a model does on a task.

    Attributes:
        accuracy: share of clean prompts whose largest logit *among the options* is the answer's; `accuracy_low` and
            `accuracy_high` are its 95 % Wilson interval, `chance` the mean of 1 / number of options.
        top_1: share of clean prompts whose largest logit of all is the answer's.
        base: mean logit difference of the clean prompts; `gap` is the mean of corrupt − clean (source − base when
            corrupt values are inserted) with its 95 % bootstrap interval.
        dropped: pairs that do not fit the tokeniser.
        reason: why the task is not done; empty when it is.
    """

    task: str
    relation: str
    n: int
    dropped: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    chance: float
    top_1: float
    base: float
    gap: float
    gap_low: float
    gap_high: float
    status: str
    reason: str

    @property
    def passed(self) -> bool:
        """Whether stages are run for it."""
        return self.status == DONE


def gate(
    model: Any, inputs: PairedInputs, relation: str | None = None, progress: Callable[[int], None] | None = None
) -> Gate:
    """How a model does on a task's clean and corrupt prompts.

    The task is done when the lower 95 % bound of its accuracy among the options lies above chance *and* the interval of
    its mean source − base logit difference excludes 0.

    Args:
        relation: of the task to IOI; by default what the task declares.
        progress: called with the number of prompts finished.
    """
    scores: dict[str, list[float]] = {name: [] for name in ("accuracy_among_options", "accuracy", "base", "source")}
    order: list[int] = []
    for group in inputs.groups(BATCH):
        members = list(group.members)
        order += members
        with torch.no_grad():
            clean, corrupt = (
                model(torch.stack([ids[i] for i in members]))[:, -1] for ids in (inputs.clean, inputs.corrupt)
            )
        for name, metric, logits in (
            ("accuracy_among_options", "accuracy_among_options", clean),
            ("accuracy", "accuracy", clean),
            ("base", "logit_difference", clean),
            ("source", "logit_difference", corrupt),
        ):
            scores[name] += [_score(metric, inputs, i, row) for i, row in zip(members, logits, strict=True)]
        if progress:
            progress(len(order))
    base, gaps = np.array(scores["base"]), np.array(scores["source"]) - np.array(scores["base"])
    n, right = len(inputs), int(sum(scores["accuracy_among_options"]))
    low, high = statistics.proportion_interval(right, n)
    # In the prompts' own order, so that the interval is the one a path-patching stage gives.
    gap_low, gap_high = statistics.mean_interval(gaps[np.argsort(order)])
    chance = float(np.mean([_chance(inputs, i) for i in range(n)]))
    reasons = []
    if not low > chance:
        reasons.append(f"accuracy {right / n:.2f} [{low:.2f}, {high:.2f}] is not above chance {chance:.2f}")
    if not (gap_low > 0 or gap_high < 0):
        reasons.append(f"corrupt prompts do not move the metric: {gaps.mean():+.2f} [{gap_low:+.2f}, {gap_high:+.2f}]")
    too_few = not statistics.proportion_interval(n, n).low > chance
    return Gate(
        task=inputs.name,
        relation=str(inputs.meta.get("relation", "other")) if relation is None else relation,
        n=n,
        dropped=inputs.dropped,
        accuracy=right / n,
        accuracy_low=low,
        accuracy_high=high,
        chance=chance,
        top_1=float(np.mean(scores["accuracy"])),
        base=float(base.mean()),
        gap=float(gaps.mean()),
        gap_low=float(gap_low),
        gap_high=float(gap_high),
        status=(TOO_FEW if too_few else NOT_DONE) if reasons else DONE,
        reason="; ".join(reasons),
    )


def no_inputs(task: str, relation: str, reason: str) -> Gate:
    """The entry of a task that does not apply to the model's tokeniser."""
    return Gate(task, relation, 0, 0, *[float("nan")] * 9, status=NO_INPUTS, reason=reason)


def _score(metric: str, inputs: PairedInputs, i: int, logits: Tensor) -> float:
    measure, example = METRICS[metric], Example(i, inputs.answer[i], inputs.wrong[i], inputs.options[i])
    tokens = measure.required_tokens(example)
    row = logits[None]
    return float(measure(row if tokens is None else row[:, list(tokens)], example)[0])


def _chance(inputs: PairedInputs, i: int) -> float:
    options = set(inputs.options[i]) or {*inputs.answer[i], *inputs.wrong[i]}
    return len(options & set(inputs.answer[i])) / len(options)
