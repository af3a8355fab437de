"""Probabilities of classes before and after edits of one image, in one chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from app.downloadable import Chart
from workbench.core import Edit
from workbench.plotting.source import Source


def classes_chart(
    table: pd.DataFrame,
    title: str,
    subtitle: str,
    edits: Sequence[Edit],
    source: Source,
    facts: Mapping[str, Any] | None = None,
) -> Chart:
    """Bars after the edits, with marks for before.

    Args:
        table: `workbench.Outcome.table`: class, before, after.
        facts: further columns of the CSV.
    """
    after = table["after"].to_numpy()
    none = np.full(len(after), np.nan)  # one image has no interval
    options = {
        "title": title,
        "subtitle": subtitle,
        "scale": "probability",
        "bar_name": "after",
        "x_title": "class",
        "reference": table["before"].to_numpy(),
        "reference_name": "before",
    }
    return Chart(
        "bars",
        (after, none, none),
        (list(map(str, table["class"])),),
        options,
        metadata={"edits": list(edits)},
        source=source,
        facts={"quantity": "probability of the class", **(facts or {})},
    )
