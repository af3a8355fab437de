"""`Sweep`: what many edits, one at a time, did to a metric — per example, with intervals and p-values.

The figures are drawn in `workbench.plotting`; the file format is in `workbench.results.sweep_file`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from workbench import arguments, statistics
from workbench.core import Head, at_positions, base_or_direction, in_steps
from workbench.errors import UsageError
from workbench.example_names import task_of
from workbench.io.tables import ascii_minus, number
from workbench.results import sweep_file
from workbench.results.baseline import Baseline, baseline_note, baselines_of
from workbench.results.sweep_shape import check_labels, check_shapes, head_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure


#: Differences of a metric below this, relative to its size, are rounding.
ROUNDING = 1e-5


@dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """Many edits, one at a time, each measured by a metric on the same examples.

    A cell (one edit) whose value is not finite for some example — a head that is no sender — is blank everywhere.

    Attributes:
        values: the metric of each example after each edit, in the metric's units.
        base: the metric of each example in the unedited run.
        source: the metric of each example in the run the values come from; None unless the edit is ``patch``.
        axes: what the leading axes of `values` are, a selection of ``set, step, layer, head, kv_head, position``, in
            order.
        labels: the names along each axis (``("S1", "S2", "end")``); counted from 0 where left out.
        info: what was done, JSON-able: ``model, task, n, site, by, edit, direction, metric, units`` and more.

    Raises:
        UsageError: the shapes do not fit.

    Examples:
        >>> sweep = wb.sweep(wb.load("tiny"), wb.task("ioi", n=6))
        >>> sweep
        Sweep(2 layer × 8 head, n = 6, tiny, ioi, z, patch, denoise)
        >>> sweep.mean_delta.shape, sweep.table().shape[0]
        ((2, 8), 16)
    """

    values: Float[np.ndarray, "*cells example"]
    base: Float[np.ndarray, " example"]
    source: Float[np.ndarray, " example"] | None
    axes: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "axes", arguments.texts("axes", self.axes, "names of axes"))
        for name in ("values", "base", "source"):
            if name != "source" or self.source is not None:
                put(self, name, _frozen(_numbers(name, getattr(self, name))))
        arguments.mapping("labels", self.labels, "a mapping from an axis to its labels")
        arguments.mapping("info", self.info, "a mapping that says what was done")
        check_shapes(self)
        labels = dict(self.labels)
        for axis, names in labels.items():
            arguments.sequence(f"labels[{axis!r}]", names, "a list of labels")
        sizes = zip(self.axes, self.values.shape, strict=False)
        put(self, "labels", {a: tuple(map(str, labels.pop(a, range(n)))) for a, n in sizes})
        check_labels(self, labels)
        put(self, "info", dict(self.info))

    # --- numbers

    @property
    def n(self) -> int:
        """How many examples."""
        return len(self.base)

    def of(self, examples: Sequence[int]) -> Sweep:
        """Some of the examples, in that order."""
        some = list(arguments.indices("examples", examples, self.n, "example", repeated=True))
        info = {**self.info, "n": len(some)}
        if sources := self.info.get("inputs", {}).get("examples"):
            info["inputs"] = {**self.info["inputs"], "examples": [sources[i] for i in some]}
        return replace(
            self,
            values=self.values[..., some],
            base=self.base[some],
            source=None if self.source is None else self.source[some],
            info=info,
        )

    @cached_property
    def delta(self) -> Float[np.ndarray, "*cells example"]:
        """``values − base``, in the metric's units."""
        with np.errstate(invalid="ignore"):
            return _frozen(self.values - self.base)

    @cached_property
    def mean_delta(self) -> Float[np.ndarray, "*cells"]:
        """Mean of `delta` over examples, in the metric's units; NaN for blank cells."""
        with np.errstate(invalid="ignore"):
            return _frozen(np.where(statistics.finite_rows(self.delta), self.delta.mean(axis=-1), np.nan))

    @property
    def delta_low(self) -> Float[np.ndarray, "*cells"]:
        """Lower end of the 95 % bootstrap interval of `mean_delta`."""
        return self._delta_interval.low

    @property
    def delta_high(self) -> Float[np.ndarray, "*cells"]:
        """Upper end of the 95 % bootstrap interval of `mean_delta`."""
        return self._delta_interval.high

    @cached_property
    def baselines(self) -> tuple[Baseline, ...]:
        """The metric of the unedited runs over all examples, clean before corrupt: mean, interval, and on how many
        examples the model is right. Only patch edits have two."""
        return baselines_of(self.base, self.source, self.info)

    @property
    def baseline_note(self) -> str:
        """`baselines` in one line."""
        return baseline_note(self.baselines, self.info)

    @cached_property
    def gap(self) -> Float[np.ndarray, " example"] | None:
        """``source − base`` of each example: what a full recovery would be. None without a source."""
        return None if self.source is None else _frozen(self.source - self.base)

    @cached_property
    def effect(self) -> Float[np.ndarray, "*cells"] | None:
        """``mean(delta) / mean(source − base)``, a ratio of means; None for edits without a source.

        NaN in every cell when the 95 % interval of the denominator holds 0: `effect_note` says so.
        """
        if self.gap is None:
            return None
        if self._no_effect:
            return _frozen(np.full(self.mean_delta.shape, np.nan))
        return _frozen(self.mean_delta / self.gap.mean())

    @property
    def effect_low(self) -> Float[np.ndarray, "*cells"] | None:
        """Lower end of the 95 % bootstrap interval of `effect` (numerator and denominator resampled together)."""
        return self._ratio and self._ratio.low

    @property
    def effect_high(self) -> Float[np.ndarray, "*cells"] | None:
        """Upper end of the 95 % bootstrap interval of `effect`."""
        return self._ratio and self._ratio.high

    @property
    def effect_note(self) -> str:
        """Why effects or intervals are missing; empty when nothing is."""
        notes = ["There is only one example, so there is no interval."] if self.n == 1 else []
        if self.gap is None:
            edit = str(self.info.get("edit", "edit"))
            article = "An" if edit[:1] in tuple("aeiou") else "A"
            notes.append(f"{article} {edit} edit has no source run. Read mean_delta.")
        elif self._no_effect:
            notes.append(f"{self._no_effect}, so the effect is not defined. Read mean_delta.")
        partly = int((np.isfinite(self.delta).any(axis=-1) & ~statistics.finite_rows(self.delta)).sum())
        if partly:
            notes.append(f"{partly} cells have no value, because the metric is not finite for some of their examples.")
        return " ".join(notes)

    @property
    def p_value(self) -> Float[np.ndarray, "*cells"]:
        """Two-sided p-value of each cell, corrected for the number of cells (`statistics.sign_flip_max_p`)."""
        return self._flips[0]

    @property
    def smallest_p_value(self) -> float:
        """The smallest p-value that this number of examples and draws can give."""
        return self._flips[1]

    @cached_property
    def _delta_interval(self) -> statistics.Interval:
        return statistics.mean_interval(self.delta)

    @cached_property
    def _ratio(self) -> statistics.RatioInterval | None:
        return None if self.gap is None else statistics.ratio_interval(self.delta, self.gap)

    @cached_property
    def _flips(self) -> tuple[np.ndarray, float]:
        p, smallest = statistics.sign_flip_max_p(self.delta.reshape(-1, self.n))
        return p.reshape(self.values.shape[:-1]), smallest

    @cached_property
    def _no_effect(self) -> str:
        """Why the gap cannot be divided by; empty when it can."""
        if self.gap is None or self._ratio is None:
            return "There is no source run"
        mean, low, high = self.gap.mean(), self._ratio.gap_low, self._ratio.gap_high
        if not np.isfinite(mean):
            return "The metric of the source or the base run is not finite for some example"
        if self._ratio.gap_holds_zero:
            return (
                f"The mean of source − base is {number(mean)} with the 95 % interval [{number(low)}, {number(high)}], "
                "which contains 0"
            )
        same = np.abs(self.gap).max() <= ROUNDING * max(1.0, float(np.abs(self.base).max()))
        return "Source and base have the same metric to float32 precision" if same else ""

    # --- cells and heads

    def cells(self) -> Iterator[tuple[tuple[int, ...], dict[str, str]]]:
        """Index and labels of every cell, in order."""
        for index in np.ndindex(*self.values.shape[:-1]):
            yield index, {a: self.labels[a][i] for a, i in zip(self.axes, index, strict=True)}

    def name(self, index: tuple[int, ...]) -> str:
        """A cell as people write it: ``9.6``, ``9.kv1``, ``9.6 at S2``, ``9.6 in step 3``, ``layer 9 at end``."""
        sizes = self.values.shape[:-1]
        entries = arguments.sequence("index", index, f"a cell's index, one number for each of {', '.join(self.axes)}")
        if len(entries) != len(sizes):
            raise arguments.refusal("index", index, f"{len(sizes)} numbers, one for each of {', '.join(self.axes)}")
        places = [arguments.index("index", i, n, a) for i, n, a in zip(entries, sizes, self.axes, strict=True)]
        at = {a: self.labels[a][i] for a, i in zip(self.axes, places, strict=True)}
        if "set" in at:
            return at["set"]
        name = head_name(at) or " ".join(f"{a} {at[a]}" for a in ("layer", "head", "kv_head") if a in at)
        name += f" in step {at['step']}" if "step" in at else ""
        return " at ".join(filter(None, [name.strip(), at.get("position")]))

    def ranking(self) -> Float[np.ndarray, "*cells"]:
        """What cells are ranked by: ``|mean_delta|``, which orders them as |effect| does. NaN for blank cells."""
        return np.abs(self.mean_delta)

    def top(self, k: int | None = None, *, percent: float | None = None) -> list[Head]:
        """The `k` heads, or the top `percent` % (``max(1, round(k·L·H))``), with the largest |effect|, largest first.

        With a step or a position axis a head counts with the largest of its cells. Blank heads never appear. In a sweep
        over key/value heads `Head.index` counts those.

        Raises:
            UsageError: the sweep has no heads, or not exactly one of `k` and `percent` is given.
        """
        if not {"head", "kv_head"} & set(self.axes):
            raise UsageError(f"This sweep has the axes {self.axes} and no heads to rank. Sweep with by='head'.")
        k = arguments.whole_number("k", k, at_least=1, optional=True)
        percent = arguments.number("percent", percent, above=0, at_most=100, optional=True)
        if (k is None) == (percent is None):
            raise UsageError(f"k={k}, percent={percent}: expected one of them, a number of heads or a share of all.")
        score: dict[Head, float] = {}
        ranking = self.ranking()
        for index, at in self.cells():
            head = Head(int(at["layer"]), int(at.get("head") or at["kv_head"].removeprefix("kv")))
            score[head] = np.fmax(score.get(head, np.nan), ranking[index])
        best = sorted((h for h in score if np.isfinite(score[h])), key=lambda h: -score[h])
        return best[: statistics.top_count(percent, len(score)) if percent is not None else k]

    # --- tables, figures and files

    def table(self) -> pd.DataFrame:
        """One row a cell: its labels, mean_delta, effect, their 95 % intervals, p_value, n. Blank cells have NaN.

        `effect` and its interval are NaN where there is no source run, or where the 95 % interval of ``source − base``
        holds 0; both intervals are NaN with one example. `effect_note` says which of these it is.

        A head has its name and, as ``9.10`` in a file is soon read as a number, its ``head_index`` beside its layer.
        """
        import pandas as pd

        places = [at for _, at in self.cells()]
        columns: dict[str, Any] = {}
        if "set" in self.axes:
            columns["set"] = [at["set"] for at in places]
        if "step" in self.axes:
            columns["step"] = [int(at["step"]) for at in places]
        if "layer" in self.axes:
            columns["layer"] = [int(at["layer"]) for at in places]
        if {"head", "kv_head"} & set(self.axes):
            columns["head_index"] = [int(at.get("head", at.get("kv_head", ""))) for at in places]
            columns["head"] = [head_name(at) or at.get("head", at.get("kv_head")) for at in places]
        if "position" in self.axes:
            columns["position"] = [at["position"] for at in places]
        blank = np.full(self.mean_delta.shape, np.nan)
        for name in ("mean_delta", "delta_low", "delta_high", "effect", "effect_low", "effect_high", "p_value"):
            values = getattr(self, name)
            columns[name] = (blank if values is None else values).ravel()
        return pd.DataFrame({**columns, "n": self.n})

    def figure(self, quantity: str | None = None) -> Figure:
        """Interactive Plotly figure of ``"effect"`` (the default where there is one) or ``"mean_delta"``."""
        from workbench.plotting import sweep_charts

        return sweep_charts.figure(self, self.quantity(quantity))

    def picture(self, quantity: str | None = None) -> Picture:
        """The same, still, as a `matplotlib.figure.Figure` (``.savefig("sweep.png")``)."""
        from workbench.plotting import sweep_charts

        return sweep_charts.picture(self, self.quantity(quantity))

    def quantity(self, quantity: str | None = None) -> str:
        """Which quantity a figure shows: `quantity`, or effects where they exist, else mean deltas."""
        usable = self.effect is not None and bool(np.isfinite(self.effect).any())
        quantity = arguments.one_of("quantity", quantity, ("effect", "mean_delta"), optional=True)
        if quantity == "effect" and not usable:
            raise UsageError(f"quantity='effect': there is no effect to draw. {self.effect_note}")
        return quantity or ("effect" if usable else "mean_delta")

    def json(self) -> dict[str, Any]:
        """Everything but the per-cell, per-example values, as plain JSON (NaN becomes null)."""
        from workbench.io.files import jsonable

        ratio = self._ratio
        gap = ratio and {
            "mean": self.gap.mean() if self.gap is not None else None,
            "low": ratio.gap_low,
            "high": ratio.gap_high,
        }
        return jsonable(
            {
                "info": self.info,
                "axes": self.axes,
                "labels": self.labels,
                "n": self.n,
                "base": self.base,
                "source": self.source,
                "gap": gap,
                "baselines": [baseline.json() for baseline in self.baselines],
                "baseline_note": ascii_minus(self.baseline_note),
                "note": self.effect_note,
                "smallest_p_value": self.smallest_p_value,
                "cells": self.table().to_dict("records"),
            }
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file (values, base, source) with axes, labels and info as JSON metadata."""
        sweep_file.save(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Sweep:
        """Read what `save` wrote, as untrusted input.

        Raises:
            BadInput: no such file, truncated, or anything in it is not as `save` writes it.
        """
        return sweep_file.load(path, cls)

    def __repr__(self) -> str:
        shape = " × ".join(f"{size} {axis}" for axis, size in zip(self.axes, self.values.shape, strict=False))
        words = {key: str(self.info[key]) for key in ("model", "task", "site", "edit", "direction") if key in self.info}
        if "task" in words:
            words["task"] = task_of(self.info)
        if "site" in words:
            words["site"] += at_positions(self.info, self.axes)
            words["site"] += f" {where}" if (where := in_steps(self.info, self.axes)) else ""
        if "direction" in words:
            words["direction"] = base_or_direction(self.info, self.source is not None)
        return f"Sweep({', '.join([shape, f'n = {self.n}', *words.values()])})"

    def _repr_html_(self) -> str:
        from workbench.plotting import notebook

        return notebook.of_sweep(self)


def _numbers(name: str, array: Any) -> np.ndarray:
    try:
        return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise arguments.refusal(name, array, "an array of numbers") from None


def _frozen(array: Any) -> np.ndarray:
    view = np.asarray(array, dtype=np.float64).view()
    view.flags.writeable = False
    return view
