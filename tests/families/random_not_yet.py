"""Random cases that are known to be wrong: work to be done. The aim is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Reason → which cases.
NOT_YET: dict[str, Callable[[Any], bool]] = {}


def is_not_yet(case: Any) -> bool:
    """Whether a case is known to be wrong."""
    return any(matches(case) for matches in NOT_YET.values())
