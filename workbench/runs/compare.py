"""Whether two runs agree: their tables, number by number and word by word."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.runs.run import Run

if TYPE_CHECKING:
    import pandas as pd

#: Two numbers agree within this, absolutely or relatively.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class TableDifference:
    """How one table differs.

    Attributes:
        reason: why they cannot be compared (a table, column or row is missing), else empty.
        largest: the largest absolute difference of a number; NaN where they cannot be compared.
        beyond: how many numbers differ beyond the tolerance, NaN in one alone included.
        words: how many other entries differ.
    """

    table: str
    reason: str = ""
    largest: float = math.nan
    beyond: int = 0
    words: int = 0

    @property
    def agrees(self) -> bool:
        return not (self.reason or self.beyond or self.words)


def compare(a: Run, b: Run, tolerance: float = TOLERANCE) -> list[TableDifference]:
    """Every table of either run, in order of its name."""
    differences = []
    for name in sorted({*a.table_names, *b.table_names}):
        if name not in a.table_names or name not in b.table_names:
            only = a if name in a.table_names else b
            differences.append(TableDifference(name, f"only {only.path.name} has it"))
        else:
            differences.append(_table(name, a.table(name), b.table(name), tolerance))
    return differences


def _table(name: str, a: pd.DataFrame, b: pd.DataFrame, tolerance: float) -> TableDifference:
    from pandas.api.types import is_numeric_dtype

    if list(a.columns) != list(b.columns) or len(a) != len(b):
        return TableDifference(name, f"{a.shape[0]} rows of {a.shape[1]} columns, and {b.shape[0]} of {b.shape[1]}")
    largest, beyond, words = 0.0, 0, 0
    for column in a.columns:
        x, y = a[column], b[column]
        if is_numeric_dtype(x) and is_numeric_dtype(y):
            p, q = x.to_numpy(float), y.to_numpy(float)
            gap = np.abs(p - q)
            beyond += int((~np.isclose(p, q, rtol=tolerance, atol=tolerance, equal_nan=True)).sum())
            largest = max(largest, float(np.nanmax(gap, initial=0.0)))
        else:
            words += sum(_plain(p) != _plain(q) for p, q in zip(x, y, strict=True))
    return TableDifference(name, "", largest, beyond, words)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    return None if value is None or value != value else value


def config_differences(a: Run, b: Run) -> dict[str, tuple[Any, Any]]:
    """Facts in which two runs differ: configuration, versions, verdict and the machine."""
    flat = [_flat({k: run.facts.get(k) for k in _COMPARED}) for run in (a, b)]
    return {
        key: (flat[0].get(key), flat[1].get(key))
        for key in sorted({*flat[0], *flat[1]})
        if flat[0].get(key) != flat[1].get(key)
    }


_COMPARED = ("finding", "config", "verdict", "model", "data", "versions", "git", "platform", "cores", "threads")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, item in value.items() for k, v in _flat(item, f"{prefix}.{key}" if prefix else key).items()}
