"""Tables as text: heads that stay heads when they are read, and numbers that have no sign when they are 0."""

from __future__ import annotations

import os
import re
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

#: Columns that name heads. As numbers ``9.1`` and ``9.10`` would be the same.
HEAD_COLUMNS = ("head", "receiver", "receivers", "sender", "shared_heads")
#: One head a row, ``9.6`` or the key/value head ``9.kv1``; and heads in a text.
_HEAD = re.compile(r"(\d+)\.(?:kv)?(\d+)")
_HEADS = re.compile(r"(?<![\w.])(\d+)\.(\d+)(?![\w.])")


def read_csv(source: str | os.PathLike[str] | IO[bytes]) -> pd.DataFrame:
    """A CSV file such as those of a run directory, in which the columns of `HEAD_COLUMNS` are text."""
    import pandas as pd

    return pd.read_csv(source, dtype=dict.fromkeys(HEAD_COLUMNS, str))


def to_csv(table: pd.DataFrame, index: bool = False) -> str:
    """A table as a CSV file that `pandas.read_csv` reads as it is, with no options.

    As a number the head ``9.10`` would be ``9.1``: heads are written ``L9H10``, which `Head.parse` reads.
    """
    heads = (*HEAD_COLUMNS, "name") if {"layer", "head"} <= {*table.columns} else HEAD_COLUMNS
    names = [
        name for name in table.columns if re.sub("^(first|second)_|.*_(?=with$)", "", str(name)) in (*heads, "with")
    ]
    return str(table.assign(**{str(name): table[name].map(_head) for name in names}).to_csv(index=index))


def with_places(table: pd.DataFrame) -> pd.DataFrame:
    """A table with the ``layer`` and the ``head_index`` of its heads, where its column ``head`` has one in each row."""
    parts = [_HEAD.fullmatch(str(head)) for head in table["head"]] if "head" in table else []
    if not parts or not all(parts):
        return table
    table = table.rename(columns={"index": "head_index"})  # what a run's tables call it
    at = list(table.columns).index("head")
    for name, group in (("head_index", 2), ("layer", 1)):
        if name not in table:
            table.insert(at, name, [int(part[group]) for part in parts if part])
    return table


def _head(names: Any) -> Any:
    """The name of a head, or of several, in which no program sees a number."""
    return _HEADS.sub(r"L\1H\2", names) if isinstance(names, str) else names


def ascii_minus(value: Any) -> Any:
    """A text of ours as data files have it; figures and pages have the minus sign of print."""
    return value.replace("\N{MINUS SIGN}", "-") if isinstance(value, str) else value


def number(value: float, spec: str = ".3g") -> str:
    """``format(value, spec)`` for people: what rounds to 0 has no minus sign, and NaN is ``–``."""
    if value != value:
        return "–"
    text = format(value, spec)
    return text.removeprefix("-") if not text.strip("-0.%e+ ") else text


def printed(value: float, spec: str = ".3g") -> str:
    """`number` with the minus sign of print, as in figures and on pages."""
    return true_minus(number(value, spec))


def true_minus(numbers: Any) -> str:
    """Numbers as text, such as a `Quantity`, with the minus sign of print."""
    return str(numbers).replace("-", "\N{MINUS SIGN}")
