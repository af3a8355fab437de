"""Probabilities of classes before and after edits of one image, in one chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

import workbench as wb
from app.downloadable import Chart
from workbench.core import Edit
from workbench.plotting.source import Source

#: Classes that are all shown, and how many are shown of more.
MOST, LARGEST = 12, 10


def classes_chart(
    outcome: wb.Outcome,
    title: str,
    subtitle: str,
    edits: Sequence[Edit],
    source: Source,
    facts: Mapping[str, Any] | None = None,
) -> Chart:
    """Bars after the edits, with marks for before; the subtitle says which classes they are of.

    Args:
        outcome: of one image.
        facts: further columns of the CSV.
    """
    table, which = _selected(outcome.table(outcome.logits.shape[-1]))
    after = table["after"].to_numpy()
    none = np.full(len(after), np.nan)  # one image has no interval
    options = {
        "title": title,
        "subtitle": f"{subtitle}; {which}",
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


def _selected(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The classes that are shown, the likeliest first, and which they are, in words."""
    if len(table) <= MOST:
        return table, f"all {len(table)} classes"
    change = np.abs(table["after"].to_numpy() - table["before"].to_numpy())
    largest = np.sort(np.argsort(-change, kind="stable")[:LARGEST])
    return table.iloc[largest], f"the {LARGEST} with the largest change of {len(table):,} classes"
