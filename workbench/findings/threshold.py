"""`Threshold` and `judge`: a rule that is printed and checked by one object, and the verdict that follows.

The verdict is *supported* when every threshold is met, *not supported* when one is refuted, else *undecided*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from workbench.errors import UsageError
from workbench.findings.report import Judgement
from workbench.plotting.quantity import Quantity, distinguishing_spec, number

Status = Literal["met", "open", "refuted"]


@dataclass(frozen=True)
class Threshold:
    """What a measured quantity has to exceed for the claim to hold, stated before the run.

    It is *met* when the lower end of the quantity's 95 % interval lies above it, and *refuted* as `refuted_by` says:

    - ``"interval"``: the whole interval lies at or below it;
    - ``"value"``: the value itself does (for controls, which the claim says are exceeded);
    - ``"nothing"``: it only ever leaves the claim open.

    With `at_most`, an upper limit, it is the other way round: met when the upper end is within it.

    >>> str(Threshold("gain in accuracy", above=0))
    'gain in accuracy: lower end of its 95 % interval above 0'

    Attributes:
        quantity: what is measured, with its unit; `detail`: more of it, for the printed rule alone.
        above: a number; or a text that names a control which is measured in the same run, and handed to `judge` beside
            the quantity.
        at_least: for counts, in place of `above`.
        at_most: for errors, in place of `above`.
        refuted_at: for ``refuted_by="value"``: at or below which value it is refuted, where that is not the threshold.
    """

    quantity: str
    above: float | str | None = None
    at_least: int | None = None
    refuted_by: Literal["interval", "value", "nothing"] = "interval"
    refuted_at: float | None = None
    detail: str = ""
    at_most: float | None = None

    def __post_init__(self) -> None:
        if sum(limit is not None for limit in (self.above, self.at_least, self.at_most)) != 1:
            raise UsageError(f"Threshold({self.quantity!r}): give one of above, at_least and at_most.")

    @property
    def bound(self) -> str:
        """The threshold in words: ``above 0.5``, ``at least 1`` or ``at most 0.1``."""
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return f"above {self.above}" if self.at_least is None else f"at least {self.at_least}"

    def __str__(self) -> str:
        end = "lower end of its 95 % interval " if self.above is not None else ""
        return f"{self.quantity}: {end}{self.bound}" + (f" ({self.detail})" if self.detail else "")

    def check(self, quantity: Quantity, control: Quantity | float | None = None) -> tuple[Status, str]:
        """Whether a quantity meets the threshold, and that in words.

        Args:
            control: the measured control, where `above` is a text.
        """
        if isinstance(self.above, str) == (control is None):
            raise UsageError(f"Threshold({self.quantity!r}): expected a control when above is a string, and only then.")
        if self.at_most is not None:
            return self._check_limit(quantity, self.at_most)
        if self.at_least is not None:
            status = self._status(quantity, self.at_least - 1, self.at_least - 1)
            surely = "" if quantity.low == quantity.value else f", {quantity.low:g} of them surely"
            return status, f"{self.quantity}: {quantity.value:g}{surely} (needed: {self.bound})"
        if isinstance(control, Quantity):
            upper, lower, strictly = control.high, control.low, True
        else:
            upper = lower = float(control if control is not None else self.above or 0)
            strictly = False
        status = self._status(quantity, upper, lower, strictly)
        # What is above is written so that it is seen to be.
        spec = distinguishing_spec("", (quantity.low, upper)) if status == "met" else ""
        if isinstance(control, Quantity):
            text = f"{self.above} ({control:{spec}})"
        else:
            text = f"{self.above}" if control is None else f"{self.above} ({number(upper, spec)})"
        relation = {"met": "is above", "open": "is not surely above", "refuted": "is not above"}[status]
        return status, f"{self.quantity} {quantity:{spec}} {relation} {text}"

    def margin(self, quantity: Quantity) -> float:
        """A number that is smaller, the further a quantity is from meeting the threshold."""
        end = -quantity.high if self.at_most is not None else quantity.low
        return -math.inf if math.isnan(end) else end

    def _check_limit(self, quantity: Quantity, limit: float) -> tuple[Status, str]:
        end = {"interval": quantity.low, "value": quantity.value, "nothing": math.nan}[self.refuted_by]
        status: Status = "met" if quantity.high <= limit else "refuted" if end > limit else "open"
        value = quantity.value
        digits = next((n for n in range(2, 7) if value == limit or float(f"{value:.{n}g}") != limit), 6)
        text = f"{value:.{digits}g}"
        if quantity.low != quantity.high:
            text += f" [{quantity.low:.{digits}g}, {quantity.high:.{digits}g}]"
        relation = {"met": "is", "open": "is not surely", "refuted": "is not"}[status]
        return status, f"{self.quantity} {text} {relation} {self.bound}"

    def _status(self, quantity: Quantity, upper: float, lower: float, strictly: bool = False) -> Status:
        """`upper` has to be exceeded; at or below `lower` it is refuted (`strictly`: below)."""
        if quantity.low > upper:
            return "met"
        at = lower if self.refuted_at is None else self.refuted_at
        end = {"interval": quantity.high, "value": quantity.value, "nothing": float("nan")}[self.refuted_by]
        return "refuted" if (end < at if strictly else end <= at) else "open"


def judge(
    thresholds: Mapping[str, Threshold], **measured: Quantity | list[Quantity] | tuple[Quantity, Quantity | float]
) -> Judgement:
    """The verdict that follows from the measured quantities, with its reason.

    Supported when every threshold is met, not supported when one is refuted, else undecided.

    Args:
        thresholds: those of the finding, by name.
        measured: under each name the quantity; ``(quantity, control)`` where `Threshold.above` is a text; a list where
            several quantities have to meet one threshold.

    Raises:
        UsageError: a threshold without its quantity, or a quantity without its threshold.
    """
    if set(thresholds) != set(measured):
        raise UsageError(
            f"judge: thresholds are {sorted(thresholds)}, measured are {sorted(measured)}: expected the same names."
        )
    outcomes: dict[Status, list[str]] = {"met": [], "open": [], "refuted": []}
    for name, threshold in thresholds.items():
        value = measured[name]
        if isinstance(value, tuple):
            status, words = threshold.check(*value)
        else:
            # Several: the one that is furthest from meeting the threshold speaks for all of them.
            each = [value] if isinstance(value, Quantity) else value
            status, words = threshold.check(min(each, key=threshold.margin))
        outcomes[status].append(words)
    if outcomes["refuted"]:
        return Judgement("not supported", "; ".join(outcomes["refuted"]))
    if outcomes["open"]:
        return Judgement("undecided", "; ".join(outcomes["open"]))
    return Judgement("supported", "; ".join(outcomes["met"]))
