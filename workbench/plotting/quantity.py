"""`Quantity`: a measured number with its 95 % interval."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

NAN = float("nan")
#: No number is written with more decimals, however close it is to another.
MOST_DECIMALS = 6


@dataclass(frozen=True)
class Quantity:
    """A number with the ends of its 95 % interval; NaN where there is none.

    >>> gain = Quantity(0.2, 0.1, 0.3)
    >>> gain.columns("gain")
    {'gain': 0.2, 'gain_low': 0.1, 'gain_high': 0.3}
    >>> f"{gain:+.1f}"
    '+0.2 [+0.1, +0.3]'
    """

    value: float
    low: float = NAN
    high: float = NAN

    @classmethod
    def mean(cls, values: Float[np.ndarray, " example"]) -> Quantity:
        """The mean over examples with its bootstrap interval, in the units of `values`."""
        from workbench import statistics

        interval = statistics.mean_interval(values)
        return cls(float(values.mean()), float(interval.low), float(interval.high))

    @classmethod
    def ratio(cls, part: Float[np.ndarray, " example"], whole: Float[np.ndarray, " example"]) -> Quantity:
        """``mean(part) / mean(whole)`` with its bootstrap interval over examples; NaN where the interval of
        ``mean(whole)`` holds 0."""
        from workbench import statistics

        interval = statistics.ratio_interval(part, whole)
        value = NAN if interval.gap_holds_zero else float(part.mean() / whole.mean())
        return cls(value, float(interval.low), float(interval.high))

    @classmethod
    def proportion(cls, hits: np.ndarray) -> Quantity:
        """The share of `hits` (0 or 1, one an example) that are 1, with its Wilson interval."""
        from workbench import statistics

        interval = statistics.proportion_interval(int(hits.sum()), len(hits))
        return cls(float(hits.mean()), float(interval.low), float(interval.high))

    @classmethod
    def exact(cls, value: float) -> Quantity:
        """A number without sampling error, such as a count: its interval is the number itself."""
        return cls(float(value), float(value), float(value))

    def columns(self, name: str, prefix: str | None = None) -> dict[str, float]:
        """Three columns of a table row: `name`, and the interval as ``{name}_low`` and ``{name}_high``.

        `prefix` stands before ``low`` and ``high`` in place of ``name_``: ``""`` for a table with one quantity.
        """
        prefix = f"{name}_" if prefix is None else prefix
        return {name: self.value, f"{prefix}low": self.low, f"{prefix}high": self.high}

    def __format__(self, spec: str) -> str:
        """``value [low, high]``, each number formatted by `spec` (``.2f`` by default); -0 is written as 0.

        An interval that excludes 0 is written with as many decimals as show it: ``0.004 [0.001, 0.009]``.
        """
        if not math.isfinite(self.value):
            return "no value"
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return f"{number(self.value, spec)} (no interval)"
        spec = distinguishing_spec(
            spec, *((end, 0.0) for end in (self.low, self.high) if self.low > 0 or self.high < 0)
        )
        low, high = number(self.low, spec), number(self.high, spec)
        return f"{number(self.value, spec)} [{low}, {high}]"

    def __str__(self) -> str:
        return format(self, "")


def number(value: Any, spec: str = "") -> str:
    """``format(value, spec)`` with -0 written as 0; two decimals by default. NaN is ``no value``."""
    if math.isnan(value):
        return "no value"
    spec = spec or ".2f"
    sign = spec[0] if spec[0] in "+- " else ""
    return format(float(value), f"{sign}z{spec[len(sign) :]}")


def distinguishing_spec(spec: str, *pairs: tuple[float, float]) -> str:
    """`spec` with as many decimals as tell the numbers of each pair apart, `MOST_DECIMALS` at most: what is said to lie
    above 0.5 is then not written as 0.50.

    >>> distinguishing_spec(".2f", (0.5004, 0.5))
    '.4f'
    """
    spec = spec or ".2f"
    match = re.fullmatch(r"([+\- ]?)\.(\d+)f", spec)
    if match is None:
        return spec
    for decimals in range(int(match[2]), MOST_DECIMALS + 1):
        spec = f"{match[1]}.{decimals}f"
        if all(number(a, spec) != number(b, spec) for a, b in pairs if a != b):
            break
    return spec
