"""The tables that other parts of the workbench read: ``summary`` (documentation) and the columns of ``heads``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.core import Head
from workbench.plotting.quantity import Quantity

if TYPE_CHECKING:
    import pandas as pd


def summary_table(quantities: Mapping[str, Quantity | float | str], n: int) -> pd.DataFrame:
    """The table ``summary``: a row for each main number, with ``quantity``, ``value``, ``low``, ``high`` and ``n``.

    ``low`` and ``high`` are left out where none of the numbers is a `Quantity`.
    """
    import pandas as pd

    rows = []
    for name, number in quantities.items():
        columns = number.columns("value", "") if isinstance(number, Quantity) else {"value": number}
        rows.append({"quantity": name, **columns, "n": n})
    return pd.DataFrame(rows)


def head_columns(head: Head) -> dict[str, Any]:
    """The columns that name a head in a table: ``layer``, ``index`` and ``head`` (``9.6``)."""
    return {"layer": head.layer, "index": head.index, "head": str(head)}
