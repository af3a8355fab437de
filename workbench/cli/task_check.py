"""Whether a model does the task that a sweep was measured on: effects on what it does not do mean little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workbench import statistics
from workbench.example_names import examples_of
from workbench.io.tables import number

if TYPE_CHECKING:
    from workbench.inputs.paired import PairedInputs
    from workbench.inputs.pairs import Pair
    from workbench.results.sweep import Sweep


@dataclass(frozen=True)
class TaskCheck:
    """How the model does on the clean prompts.

    Attributes:
        status: ``done`` where the 95 % interval lies above chance, ``not done`` where the mean does not, ``unclear``
            between the two; None where the metric cannot tell.
        reason: the number and its interval; empty where the metric cannot tell.
    """

    status: str | None = None
    reason: str = ""

    @property
    def warning(self) -> str:
        """A line for people; empty where the task is done, or nothing is known."""
        if self.status not in ("unclear", "not done"):
            return ""
        start = "It is unclear whether the model can do" if self.status == "unclear" else "The model cannot do"
        return f"{start} this task: {self.reason}. Effects measured on it mean little."


class Choices(NamedTuple):
    """The classes of one image, where a prompt pair has its answers."""

    answer: Sequence[Any]
    wrong: Sequence[Any]
    options: Sequence[Any]


def choices_of(inputs: PairedInputs) -> list[Choices]:
    """Of each example."""
    return [Choices(*row) for row in zip(inputs.answer, inputs.wrong, inputs.options, strict=True)]


def check_task(sweep: Sweep, pairs: Sequence[Pair] | Sequence[Choices]) -> TaskCheck:
    """From the metric of the clean runs, which a sweep has anyway.

    *logit_difference*: the bootstrap interval of its mean lies above 0 (of one prompt: the value does).
    *accuracy_among_options*: the Wilson interval lies above the mean of answers / options. Other metrics have no
    chance level.
    """
    clean = sweep.source if sweep.info.get("direction") == "denoise" else sweep.base
    if clean is None or not np.isfinite(clean).all():
        return TaskCheck()
    mean, what = float(clean.mean()), examples_of(sweep.info)
    if sweep.info.get("metric") == "logit_difference":
        interval = statistics.mean_interval(clean)
        low, high = (mean, mean) if sweep.n == 1 else (float(interval.low), float(interval.high))
        between = "" if sweep.n == 1 else f" [{number(low)}, {number(high)}]"
        return TaskCheck(_status(mean, low, 0.0), f"mean logit difference of the clean {what} {number(mean)}{between}")
    if sweep.info.get("metric") == "accuracy_among_options":
        interval = statistics.proportion_interval(round(mean * sweep.n), sweep.n)
        chance = float(
            np.mean([len(pair.answer) / len(set(pair.options or (*pair.answer, *pair.wrong))) for pair in pairs])
        )
        between = f"[{number(interval.low)}, {number(interval.high)}]"
        return TaskCheck(
            _status(mean, interval.low, chance),
            f"accuracy among the options {number(mean)} {between} on the clean {what}, chance {number(chance)}",
        )
    return TaskCheck()


def _status(mean: float, low: float, chance: float) -> str:
    return "done" if low > chance else "unclear" if mean > chance else "not done"
