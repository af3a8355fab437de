"""A notice about what is valid, and probably a mistake in an edit."""

from __future__ import annotations

import warnings
from collections.abc import Iterable


class EditNotice(UserWarning):
    """An edit of the user's own that is probably a mistake."""


def notice_lone(text: str) -> None:
    """Warn of an input whose mean is its own activation at most positions."""
    warnings.warn(text, EditNotice, stacklevel=8)


def notice_nan(kinds: Iterable[object], stacklevel: int = 4) -> None:
    """Warn where numbers are NaN after edits of which one is the user's own function."""
    for kind in kinds:
        if callable(kind):
            name = getattr(kind, "__name__", "function")
            text = f"After the edit {name} some numbers are NaN. Check what the function returns."
            warnings.warn(text, EditNotice, stacklevel=stacklevel)
            return
