"""The numbers of a run's Plotly figure, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def table(figure: Figure) -> pd.DataFrame:
    """The numbers.

    Of a heatmap one row per cell of each of its views (``view, row, column, value``); of a chart one row per mark
    (``series, name, value, low, high``).
    """
    frames = [pd.DataFrame(columns) for trace in figure.data for columns in _columns(trace, figure)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _columns(trace: Any, figure: Figure) -> Iterator[dict[str, Any]]:
    if trace.type == "heatmap":
        buttons = [button for menu in figure.layout.updatemenus for button in menu.buttons]
        views = {button.label: button.args[0]["z"][0] for button in buttons} or {"": trace.z}
        rows, columns = np.repeat(trace.y, len(trace.x)), np.tile(trace.x, len(trace.y))
        for name, z in views.items():
            yield {"view": name, "row": rows, "column": columns, "value": np.array(z, dtype=float).ravel()}
    elif trace.type in ("bar", "scatter"):
        value, ends = np.array(trace.y, dtype=float), trace.error_y
        down, up = (np.array(np.nan if end is None else end, dtype=float) for end in (ends.arrayminus, ends.array))
        yield {"series": trace.name, "name": trace.x, "value": value, "low": value - down, "high": value + up}
