"""`MemoryCurves`: curves of several memories in one figure, each beside its law."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import arguments
from workbench.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure

    from workbench.plotting.charts import PointsAndCurves
    from workbench.plotting.source import Source
    from workbench.results.memory_curve import MemoryCurve

#: What curves in one figure have in common.
COMMON = ("criterion", "d", "d_value", "keys", "passes", "trials", "seed")


@dataclass(frozen=True, eq=False, repr=False)
class MemoryCurves:
    """Curves of the same pairs, by rule; made by `MemoryCurve.beside`.

    Attributes:
        curves: by the rule with its settings.

    Examples:
        >>> curve = wb.memory("hebbian", d=16, n=[8, 16], trials=50)
        >>> both = curve.beside(wb.memory("delta", d=16, n=[8, 16], trials=50))
        >>> both
        MemoryCurves(hebbian, delta; mse, d = 16, n = 8 to 16, 50 trials)
        >>> both.table()["rule"].tolist()
        ['hebbian', 'hebbian', 'delta', 'delta']
    """

    curves: Mapping[str, MemoryCurve]

    @classmethod
    def of(cls, first: MemoryCurve, *others: MemoryCurve) -> MemoryCurves:
        """Several curves together.

        Raises:
            UsageError: curves of other pairs or another criterion than the first's, or a rule twice.
        """
        for other in others:
            facts = ((name, first.info[name], other.info[name]) for name in COMMON)
            for name, expected, value in (("n", list(first.loads), list(other.loads)), *facts):
                if value != expected:
                    of_first = f"curves of one figure to have one {name}, {expected!r} of {first.info['rule']}"
                    raise UsageError(f"{other.info['rule']} has {name}={value!r}: expected {of_first}.")
        curves = (first, *others)
        rules = [curve.info["rule"] for curve in curves]
        arguments.each_once("others", rules, rules, "rule")
        return cls(dict(zip(rules, curves, strict=True)))

    @property
    def source(self) -> Source:
        """What figures and tables say that they are of."""
        from workbench.plotting.source import Source

        info = next(iter(self.curves.values())).info
        return Source(details=(("keys", info["keys"]), ("seed", str(info["seed"]))))

    @property
    def notes(self) -> list[str]:
        """What a reader has to know of each."""
        return [f"{rule}: {note}" for rule, curve in self.curves.items() for note in curve.notes]

    def table(self) -> pd.DataFrame:
        """The tables of all, one below the other, with the column ``rule``."""
        import pandas as pd

        tables = {rule: curve.table() for rule, curve in self.curves.items()}
        return pd.concat(tables, names=["rule"]).reset_index("rule").reset_index(drop=True)

    def json(self) -> dict[str, Any]:
        """Everything but the trials, as plain JSON: `MemoryCurve.json` of each."""
        return {"curves": [curve.json() for curve in self.curves.values()]}

    def figure(self) -> Figure:
        """Interactive Plotly figure: means with their 95 % intervals, and the laws as lines."""
        return self.chart.figure()

    def picture(self) -> Picture:
        """The same, still, as a `matplotlib.figure.Figure`."""
        return self.chart.picture()

    @property
    def chart(self) -> PointsAndCurves:
        """What `figure` and `picture` draw."""
        from workbench.plotting.charts import PointsAndCurves, Series

        first, series = next(iter(self.curves.values())), {}
        for rule, curve in self.curves.items():
            x = np.array(curve.loads, dtype=float)
            law = None if curve.info["law"] is None else (x, curve.law)
            series[rule] = Series(x, curve.mean, curve.low, curve.high, law)
        info = first.info
        return PointsAndCurves(
            series,
            title=f"Associative memories · d = {info['d']}",
            subtitle=f"{info['keys']} keys, {first.passes}, {first.trials} trials with 95 % intervals; lines: laws",
            note=" ".join(self.notes),
            x_title="stored pairs n",
            y_title=info["scale"],
            log_x=first.is_wide,
            source=self.source,
        )

    def __repr__(self) -> str:
        first = next(iter(self.curves.values()))
        settings = repr(first).removeprefix(f"MemoryCurve({first.info['rule']}, ").removesuffix(")")
        return f"MemoryCurves({', '.join(self.curves)}; {settings})"
