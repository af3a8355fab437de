"""`Baseline`: what a sweep's metric is without any edit, which its effects are read against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from workbench.io.tables import printed, true_minus

if TYPE_CHECKING:
    from workbench.plotting.quantity import Quantity

LOGIT_DIFFERENCE = "logit_difference"
ACCURACIES = ("accuracy", "accuracy_among_options")


@dataclass(frozen=True)
class Baseline:
    """The metric of an unedited run over all examples of a sweep.

    Attributes:
        run: ``clean`` or ``corrupt``; ``base`` or ``source`` where the sweep does not say which it is.
        value: the mean over examples, in the metric's units, with its 95 % interval (bootstrap, or Wilson's of an
            accuracy). NaN where the metric is not finite for some example.
        n, n_finite: how many examples there are, and for how many the metric is finite.
        right: on how many examples the model prefers the answer to the wrong one (a logit difference above 0), or is
            right by the sweep's accuracy; None for other metrics.
        wrong: on how many it prefers the wrong answer (a logit difference below 0), or is not right.

    Examples:
        >>> clean, corrupt = wb.sweep(wb.load("tiny"), wb.task("ioi", n=6)).baselines
        >>> clean.run, clean.n, clean.right + clean.wrong
        ('clean', 6, 6)
    """

    run: str
    value: Quantity
    n: int
    n_finite: int
    right: int | None = None
    wrong: int | None = None

    @classmethod
    def of(cls, run: str, scores: Float[np.ndarray, " example"], metric: str) -> Baseline:
        """Of the metric of each example."""
        from workbench.plotting.quantity import Quantity

        n, finite = len(scores), int(np.isfinite(scores).sum())
        if metric in ACCURACIES and np.isin(scores, (0, 1)).all():
            right = int(scores.sum())
            return cls(run, Quantity.proportion(scores), n, finite, right, n - right)
        value = Quantity.mean(scores) if finite == n else Quantity(np.nan)
        if metric == LOGIT_DIFFERENCE:
            return cls(run, value, n, finite, int((scores > 0).sum()), int((scores < 0).sum()))
        return cls(run, value, n, finite)

    def json(self) -> dict[str, Any]:
        """As plain data: ``run, n, mean, low, high, right, wrong``."""
        interval = {"mean": self.value.value, "low": self.value.low, "high": self.value.high}
        return {"run": self.run, "n": self.n, **interval, "right": self.right, "wrong": self.wrong}

    def columns(self) -> dict[str, Any]:
        """Columns of a table: ``clean_mean``, ``clean_low``, ``clean_high`` and, where they are known, ``clean_right``
        and ``clean_wrong`` (numbers of examples)."""
        numbers = {name: x for name, x in self.json().items() if name not in ("run", "n") and x is not None}
        return {f"{self.run}_{name}": x for name, x in numbers.items()}


def baselines_of(
    base: Float[np.ndarray, " example"], source: Float[np.ndarray, " example"] | None, info: Mapping[str, Any]
) -> tuple[Baseline, ...]:
    """Of the runs of a sweep, clean before corrupt."""
    names = {"noise": ("clean", "corrupt"), "denoise": ("corrupt", "clean")}
    base_name, source_name = names.get(str(info.get("direction")), ("base", "source"))
    runs = {base_name: base} if source is None else {base_name: base, source_name: source}
    metric = str(info.get("metric", ""))
    return tuple(Baseline.of(run, runs[run], metric) for run in sorted(runs, key=["clean", *runs].index))


def baseline_note(baselines: Sequence[Baseline], info: Mapping[str, Any]) -> str:
    """One line for people: the mean of each run with its interval, and on how many pairs the model is right."""
    metric, units = str(info.get("metric", "metric")), str(info.get("units", ""))
    name = metric.replace("_", " ")
    in_units = "" if metric in ACCURACIES or units in (*name.split(" "), name, "") else f" {units}"
    parts = []
    for i, baseline in enumerate(baselines):
        number, has_interval = f"{printed(baseline.value.value)}{in_units}", np.isfinite(baseline.value.low)
        if has_interval:
            number = f"{true_minus(f'{baseline.value:.3g}')}{in_units}"
        elif baseline.n_finite < baseline.n:
            number = f"not finite on {baseline.n - baseline.n_finite} of {baseline.n} examples"
        what = "" if i else f"mean {name} "
        parts.append(f"{baseline.run.capitalize()} run: {what}{number}{_counts(baseline, metric)}.")
    has_interval = any(np.isfinite(baseline.value.low) for baseline in baselines)
    return " ".join([*parts, *(["In brackets: 95 % intervals."] if has_interval else [])])


def _counts(baseline: Baseline, metric: str) -> str:
    if baseline.right is None:
        return ""
    of = f"{baseline.n} pair{'' if baseline.n == 1 else 's'}"
    if metric in ACCURACIES:
        return f", right on {baseline.right} of {of}"
    wrong = f", the wrong answer on {baseline.wrong}" if baseline.wrong else ""
    return f", the answer preferred on {baseline.right} of {of}{wrong}"
