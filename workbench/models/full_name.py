"""A model's name with its swapped operators, for titles and files: ``tiny with 0-1=lightning``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Between a model's name and its operators.
WITH = " with "


def full_name(name: Any, operators: Mapping[Any, Any] | None) -> str:
    """The name, and the operators where there are any (by layer, as `HookedModel.operators` and a result's ``info``
    have them): ``"tiny with 0-1=lightning; 3=softmax"``."""
    layers: dict[str, list[int]] = {}
    for layer, operator in (operators or {}).items():
        layers.setdefault(str(operator), []).append(int(layer))
    parts = [f"{_ranges(sorted(numbers))}={operator}" for operator, numbers in layers.items()]
    return f"{name}{WITH}{'; '.join(parts)}" if parts else str(name)


def _ranges(numbers: list[int]) -> str:
    """``[0, 1, 2, 5]`` as ``0-2,5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
