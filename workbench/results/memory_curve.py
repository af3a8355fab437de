"""`MemoryCurve`: how the error of an associative memory grows with the number of pairs, beside its law."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from workbench import arguments, statistics
from workbench.errors import BadInput
from workbench.io.array_file import ArrayFile
from workbench.io.tables import number

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure

    from workbench.plotting.charts import Lines
    from workbench.results.memory_curves import MemoryCurves

#: What `info` holds, with the type of each.
INFO: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("rule", "title", "source", "criterion", "scale", "keys", "note"), str),
    **dict.fromkeys(("d", "d_value", "passes", "trials", "seed"), int),
    "empty": (int, float, type(None)),
    "falls": bool,
    "law": (dict, type(None)),
}
_LAW: Mapping[str, type] = {"formula": str, "exact": bool, "note": str}
_ARRAYS = ("samples", "law")
FILE = ArrayFile(
    "workbench.memory-curve/1", "curve", "MemoryCurve.save", "samples and law", is_array=_ARRAYS.__contains__
)
#: Loads that span more than this ratio have a logarithmic axis.
WIDE = 8


@dataclass(frozen=True, eq=False, repr=False)
class MemoryCurve:
    """A criterion of an associative memory for each number of stored pairs, see `workbench.memory`.

    Attributes:
        loads: numbers of pairs, ascending.
        samples: the criterion of each trial, the mean over its items.
        law: the closed form at each load; NaN where there is none.
        info: what was done, JSON-able: rule, criterion, d, d_value, keys, passes, trials, seed, the law's formula and
            whether it is exact in expectation, and more.

    Examples:
        >>> curve = wb.memory("hebbian", d=16, n=[8, 16], trials=50)
        >>> curve
        MemoryCurve(hebbian, mse, d = 16, n = 8 to 16, 50 trials)
        >>> curve.law.tolist()
        [0.4375, 0.9375]
        >>> curve.table().columns.tolist()
        ['n', 'mean', 'standard_error', 'low', 'high', 'law', 'gap']
    """

    loads: tuple[int, ...]
    samples: Float[np.ndarray, "load trial"]
    law: Float[np.ndarray, " load"]
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trials(self) -> int:
        """How many trials."""
        return self.samples.shape[1]

    @property
    def passes(self) -> str:
        """How often the pairs were written, in words."""
        return "1 pass" if self.info["passes"] == 1 else f"{self.info['passes']} passes"

    @property
    def is_wide(self) -> bool:
        """Whether the loads need a logarithmic axis."""
        return self.loads[-1] > WIDE * self.loads[0]

    @cached_property
    def mean(self) -> Float[np.ndarray, " load"]:
        """The mean over trials; NaN where a trial's is not finite, because the memory has diverged."""
        finite = statistics.finite_rows(self.samples)
        return np.where(finite, np.where(finite[:, None], self.samples, 0).mean(1), np.nan)

    @cached_property
    def standard_error(self) -> Float[np.ndarray, " load"]:
        """The standard deviation over trials, divided by √trials."""
        finite = statistics.finite_rows(self.samples)
        spread = np.where(finite[:, None], self.samples, 0).std(1, ddof=1) / np.sqrt(self.trials)
        return np.where(finite, spread, np.nan)

    @property
    def low(self) -> Float[np.ndarray, " load"]:
        """Lower end of the 95 % bootstrap interval of `mean`, over trials."""
        return self._interval.low

    @property
    def high(self) -> Float[np.ndarray, " load"]:
        """Upper end of the 95 % bootstrap interval of `mean`, over trials."""
        return self._interval.high

    @cached_property
    def _interval(self) -> statistics.Interval:
        return statistics.mean_interval(self.samples)

    @property
    def gap(self) -> Float[np.ndarray, " load"]:
        """``mean − law``, in the criterion's units."""
        return self.mean - self.law

    def capacity(self, limit: float) -> float:
        """The number of pairs at which the mean reaches `limit`, between the loads by a straight line; NaN where it is
        beyond the limit at the smallest load, infinite where it is within at every load.

        Args:
            limit: of an error the largest that is allowed, of a cosine or a share the smallest.

        Raises:
            UsageError: a limit that is no number.

        Examples:
            >>> curve = wb.memory("hebbian", d=64, n=range(2, 64, 4), trials=100)
            >>> 28 < curve.capacity(0.5) < 38  # the law: 33
            True
        """
        limit = arguments.number("limit", limit)
        beyond = (self.mean < limit) if self.info["falls"] else (self.mean > limit)
        beyond |= ~np.isfinite(self.mean)
        if not beyond.any():
            return float("inf")
        at = int(beyond.argmax())
        if at == 0:
            return float("nan")
        before, after = self.mean[at - 1], self.mean[at]
        share = (limit - before) / (after - before) if np.isfinite(after) else 0.0
        return float(self.loads[at - 1] + share * (self.loads[at] - self.loads[at - 1]))

    def table(self) -> pd.DataFrame:
        """One row a load: ``n``, the mean over trials, its standard error and 95 % interval, the law, and the gap
        between them."""
        import pandas as pd

        columns = ("mean", "standard_error", "low", "high", "law", "gap")
        return pd.DataFrame({"n": self.loads, **{name: getattr(self, name) for name in columns}})

    def json(self) -> dict[str, Any]:
        """Everything but the trials, as plain JSON (NaN becomes null)."""
        from workbench.io.files import jsonable

        return jsonable({"info": self.info, "notes": self.notes, "loads": self.table().to_dict("records")})

    @property
    def notes(self) -> list[str]:
        """What a reader has to know beside the numbers, a sentence each."""
        law, empty = self.info["law"], self.info["empty"]
        if law is None:
            notes = ["There is no law of this criterion for this rule and these keys."]
        else:
            kind = "exact in expectation" if law["exact"] else "an approximation"
            kind += f" ({law['note']})" if law["note"] else ""
            notes = [f"Law: {law['formula']}, {kind}."]
        if empty is not None:
            notes.append(f"A memory that reads 0 has {empty:g}.")
        notes += [self.info["note"]] if self.info["note"] else []
        if diverged := [load for load, mean in zip(self.loads, self.mean, strict=True) if not np.isfinite(mean)]:
            notes.append(f"The memory diverges from n = {diverged[0]} on, where there is no value.")
        return notes

    def beside(self, *others: MemoryCurve) -> MemoryCurves:
        """This curve and those of other rules, of the same pairs, in one figure and table.

        Raises:
            UsageError: no curves, curves of other pairs or another criterion, or a rule twice.

        Examples:
            >>> curve = wb.memory("hebbian", d=16, n=[8, 16], trials=50)
            >>> curve.beside(wb.memory("delta", d=16, n=[8, 16], trials=50))
            MemoryCurves(hebbian, delta; mse, d = 16, n = 8 to 16, 50 trials)
        """
        from workbench.results.memory_curves import MemoryCurves

        for other in others:
            arguments.instance("others", other, MemoryCurve, "curves of wb.memory")
        return MemoryCurves.of(self, *others)

    def figure(self) -> Figure:
        """Interactive Plotly figure: the mean with its 95 % band, and the law."""
        return self._chart().figure()

    def picture(self) -> Picture:
        """The same, still, as a `matplotlib.figure.Figure` (``.savefig("memory.png")``)."""
        return self._chart().picture()

    def _chart(self) -> Lines:
        from workbench.plotting.charts import Line, Lines
        from workbench.plotting.source import Source

        x, info = np.array(self.loads, dtype=float), self.info
        lines = {"simulated": Line(x, self.mean, self.low, self.high)}
        if info["law"] is not None:
            lines[f"law: {info['law']['formula']}"] = Line(x, self.law, dashed=True)
        values = f"d = {info['d']}" + (f", values of {info['d_value']}" if self._has_other_values else "")
        details = (("keys", info["keys"]), ("seed", str(info["seed"])))
        return Lines(
            lines,
            title=f"{info['title']} · associative memory · {values}",
            subtitle=f"{info['rule']}, {info['keys']} keys, {self.passes}, {self.trials} trials with 95 % intervals",
            note=" ".join([*self.notes, f"Rule: {info['source']}."]),
            x_title="stored pairs n",
            y_title=info["scale"],
            log_x=self.is_wide,
            source=Source(details=details),
        )

    @property
    def _has_other_values(self) -> bool:
        """Whether values of other dimensions than the keys are a choice, and not the criterion's way of measuring."""
        return self.info["d_value"] != self.info["d"] and self.info["criterion"] != "worst case"

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file (samples and law) with loads and info as JSON metadata."""
        FILE.save(path, {"samples": self.samples, "law": self.law}, {"loads": self.loads, "info": self.info})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> MemoryCurve:
        """Read what `save` wrote, as untrusted input.

        Raises:
            BadInput: no such file, truncated, or anything in it is not as `save` writes it.
        """

        def build(metadata: Any, arrays: dict[str, np.ndarray]) -> MemoryCurve:
            if set(arrays) != set(_ARRAYS):
                raise BadInput(f"contains {sorted(arrays)}; expected samples and law.")
            loads, info = _checked(metadata)
            samples, law = arrays["samples"], arrays["law"]
            if samples.shape != (len(loads), info["trials"]) or law.shape != (len(loads),):
                raise BadInput(
                    "samples must be [load, trial] and law [load], of as many loads and trials as are named."
                )
            return cls(loads, samples, law, info)

        return FILE.load(path, build)

    def __repr__(self) -> str:
        info, loads = self.info, self.loads
        span = f"n = {loads[0]}" + (f" to {loads[-1]}" if len(loads) > 1 else "")
        return f"MemoryCurve({info['rule']}, {info['criterion']}, d = {info['d']}, {span}, {self.trials} trials)"

    def _repr_html_(self) -> str:
        from workbench.plotting import matplotlib_charts
        from workbench.plotting.notebook import html_table, image

        rows = [
            (str(row["n"]), number(row["mean"]), f"[{number(row['low'])}, {number(row['high'])}]", number(row["law"]))
            for row in self.table().to_dict("records")
        ]
        picture = image(matplotlib_charts.image(self.picture(), dpi=90), "picture of the curve")
        table = html_table(("n", self.info["criterion"], "95 %", "law"), rows)
        notes = "<br>".join(map(escape, self.notes))
        return f"<div><b>{escape(repr(self))}</b><br>{notes}{table}{picture}</div>"


def _checked(metadata: Any) -> tuple[tuple[int, ...], dict[str, Any]]:
    if not isinstance(metadata, dict) or set(metadata) != {"loads", "info"}:
        raise BadInput("the metadata must contain loads and info.")
    loads, info = metadata["loads"], metadata["info"]
    whole = isinstance(loads, list) and loads and all(type(load) is int and load > 0 for load in loads)
    if not whole or loads != sorted(set(loads)):
        raise BadInput("loads must be ascending whole numbers above 0.")
    if not isinstance(info, dict) or set(info) != set(INFO):
        raise BadInput(f"info must contain {', '.join(INFO)}.")
    if wrong := [name for name, kind in INFO.items() if not _is(info[name], kind)]:
        raise BadInput(f"info has a {wrong[0]} of another type.")
    law = info["law"]
    if law is not None and (set(law) != set(_LAW) or not all(_is(law[name], kind) for name, kind in _LAW.items())):
        raise BadInput("info has a law without formula, exact and note.")
    return tuple(loads), info


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
