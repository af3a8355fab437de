"""A chart of lines as files."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from app.downloadable import DPI
from workbench.io.files import jsonable
from workbench.plotting import matplotlib_charts
from workbench.plotting.charts import Lines
from workbench.plotting.source import Source


@dataclass(frozen=True, eq=False)
class LinesFigure:
    """The downloads of a chart of lines."""

    lines: Lines

    def image(self, ending: str) -> bytes:
        """As ``png`` or ``svg``."""
        return matplotlib_charts.image(self.lines.picture(), ending, DPI)

    def table(self) -> pd.DataFrame:
        """One row for each point of each line, with the ends of its interval."""
        rows = []
        for name, line in self.lines.lines.items():
            none = np.full(len(line.x), np.nan)
            ends = (none if line.low is None else line.low, none if line.high is None else line.high)
            columns = {"line": name, self.lines.x_title: line.x, self.lines.y_title: line.y}
            rows.append(pd.DataFrame({**columns, "low": ends[0], "high": ends[1]}))
        return pd.concat(rows, ignore_index=True)

    def csv(self) -> bytes:
        """The table, and what it is of in the last columns."""
        return self._source.csv(self.table())

    def json(self) -> bytes:
        """The same, with title and subtitle."""
        words = {"title": self.lines.title, "subtitle": self.lines.subtitle, **self._source.fields()}
        return json.dumps(jsonable({**words, "points": self.table().to_dict("records")}), ensure_ascii=False).encode()

    @property
    def _source(self) -> Source:
        return self.lines.source or Source()
