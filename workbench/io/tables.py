"""Tables as text: heads that stay heads when they are read, and numbers that have no sign when they are 0."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

#: Columns that name heads. As numbers ``9.1`` and ``9.10`` would be the same.
HEAD_COLUMNS = ("head", "receiver", "receivers", "sender", "shared_heads")


def read_csv(source: str | os.PathLike[str] | IO[bytes]) -> pd.DataFrame:
    """A CSV file such as those of a run directory, in which the columns of `HEAD_COLUMNS` are text."""
    import pandas as pd

    return pd.read_csv(source, dtype=dict.fromkeys(HEAD_COLUMNS, str))


def number(value: float, spec: str = ".3g") -> str:
    """``format(value, spec)`` for people: what rounds to 0 has no minus sign, and NaN is ``–``."""
    if value != value:
        return "–"
    text = format(value, spec)
    return text.removeprefix("-") if not text.strip("-0.%e+ ") else text
