"""One cell of the table of families: what was compared, and how far apart it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from tests.families.tiny import one_line
from workbench.errors import WorkbenchError

#: What the contract calls exact.
TOLERANCE = 1e-4
#: Below this, no edit that was made moves the metric far enough to tell right from wrong.
SMALLEST_EFFECT = 1e-2

State = Literal["exact", "stated", "unchecked", "wrong"]


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        state: ``exact``; ``stated``, an absence that the workbench says itself; ``unchecked``, where the oracle cannot
            tell; or ``wrong``.
        text: what was said, or why it could not be checked.
        difference, effect: the largest difference from the oracle, and the largest effect (of sites: value).
    """

    state: State
    text: str = ""
    difference: float | None = None
    effect: float | None = None


class Stated(Exception):
    """The workbench refuses, in words of its own."""


class Wrong(Exception):
    """The workbench raises an error that is none of its own, or contradicts what it says."""


@contextmanager
def workbench_call() -> Iterator[None]:
    """Calls of the workbench: its refusals are told apart from its failures, and both from the oracle's."""
    try:
        yield
    except (Stated, Wrong):
        raise
    except WorkbenchError as error:
        raise Stated(one_line(error)) from error
    except Exception as error:
        raise Wrong(f"{type(error).__name__}: {one_line(error)}") from error


class Comparison:
    """Pairs of numbers, ours and the oracle's."""

    def __init__(self, *, relative: bool = False) -> None:
        self.difference, self.effect, self.largest, self.relative = 0.0, 0.0, 0.0, relative
        self._wrong: dict[str, None] = {}

    def add(self, own: Any, oracle: Any, base: Any = 0.0, name: str = "") -> None:
        """Compare; `base` is the number without the edit, `name` what a wrong cell says."""
        own, oracle, base = (_array(x) for x in (own, oracle, base))
        if own.shape != oracle.shape:
            raise Wrong(f"shape {list(own.shape)} where the model has {list(oracle.shape)}")
        if not own.size:
            return
        differences = np.abs(own - oracle)
        difference = float(np.where(np.isnan(differences), np.inf, differences).max())
        if name and difference > TOLERANCE:
            self._wrong[name] = None
        self.difference = max(self.difference, difference)
        self.effect = max(self.effect, float(np.abs(oracle - base).max()))
        self.largest = max(self.largest, float(np.abs(oracle).max()))

    def cell(self, text: str = "") -> Cell:
        """Exact or wrong; of effects too small to tell, unchecked."""
        tolerance = TOLERANCE * max(1.0, self.largest) if self.relative else TOLERANCE
        if self.difference > tolerance:
            return Cell("wrong", ", ".join(self._wrong) or text, self.difference, self.effect)
        if not np.isfinite(self.effect) or self.effect < SMALLEST_EFFECT:
            return Cell("unchecked", "no edit moves the logits far enough", self.difference, self.effect)
        return Cell("exact", text, self.difference, self.effect)


def _array(x: Any) -> np.ndarray:
    return np.asarray(x.detach().double() if isinstance(x, torch.Tensor) else x, dtype=np.float64)
