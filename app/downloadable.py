"""A figure in the page with its downloads: the very object that is shown, as PNG, SVG, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import streamlit as st

from app.plotly_text import escape_html
from app.work.ahead import AHEAD
from workbench.io.files import jsonable
from workbench.io.tables import ascii_minus
from workbench.plotting import charts, matplotlib_charts
from workbench.plotting.source import Source

if TYPE_CHECKING:
    import pandas as pd

#: Of PNG downloads.
DPI = 200
#: Of every Plotly chart in a page.
PLOTLY_CONFIG = {"displaylogo": False}


class Downloadable(Protocol):
    """What can be downloaded of a figure."""

    def image(self, ending: str) -> bytes: ...

    def csv(self) -> bytes: ...

    def json(self) -> bytes: ...


@dataclass(frozen=True, eq=False)
class Chart:
    """One heatmap or bar chart: its numbers, its labels and its text.

    Attributes:
        kind: ``heatmap`` (`arrays` holds the values) or ``bars`` (values, lower and upper ends).
        labels: of the columns, and of the rows of a heatmap.
        options: title, subtitle, scale, names of axes and note, as `workbench.plotting.charts` takes them.
        metadata: further fields of the JSON download.
        source: model, prompt and head, which every download names with the workbench's version.
        facts: what the values are, as further columns of the CSV.
        data_labels: `labels` in data, where tokens are as they are, without marks for white space.
    """

    kind: str
    arrays: tuple[np.ndarray, ...]
    labels: tuple[list[str], ...]
    options: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    source: Source = field(default_factory=Source)
    facts: dict[str, Any] = field(default_factory=dict)
    data_labels: tuple[list[str], ...] = ()

    def plotly(self) -> Any:
        """For the page. Plotly interprets HTML tags, and a token may look like one."""
        labels = [[escape_html(label) for label in axis] for axis in self.labels]
        return self._chart(labels).figure()

    def image(self, ending: str) -> bytes:
        """As ``png`` or ``svg``."""
        picture = self._chart(self.labels).picture()
        return matplotlib_charts.image(matplotlib_charts.add_source(picture, self.source), ending, DPI)

    def data_arrays(self) -> tuple[np.ndarray, ...]:
        """`arrays` in data."""
        return self.arrays

    def table(self) -> pd.DataFrame:
        """The numbers: the rows and columns of a heatmap, or one row per bar."""
        import pandas as pd

        labels = self.data_labels or self.labels
        if self.kind == "heatmap":
            corner = f"{self.options.get('y_title', '')} \\ {self.options.get('x_title', '')}"
            return pd.DataFrame(self.data_arrays()[0], index=pd.Index(labels[1], name=corner), columns=labels[0])
        value, low, high = self.data_arrays()
        columns = {"name": labels[0], self.options.get("bar_name") or "value": value}
        columns |= {name: end for name, end in (("low", low), ("high", high)) if np.isfinite(end).any()}
        table = pd.DataFrame(columns)
        if "reference" in self.options:
            table[self.options["reference_name"]] = self.options["reference"]
        return table

    def csv(self) -> bytes:
        """The exact numbers, and what they are in the last columns."""
        facts = {name: ascii_minus(fact) for name, fact in self.facts.items()}
        return self.source.csv(self.table().assign(**facts), index=self.kind == "heatmap")

    def json(self) -> bytes:
        """The exact numbers with their labels and text."""
        names = ("values",) if self.kind == "heatmap" else ("values", "low", "high")
        words = {name: ascii_minus(value) for name, value in {"kind": self.kind, **self.options}.items()}
        labels = self.data_labels or self.labels
        fields = {**words, "labels": labels, **self.source.fields(), **self.metadata}
        data = {name: array for name, array in zip(names, self.data_arrays(), strict=True)}
        return json.dumps(jsonable({**fields, **data}), ensure_ascii=False).encode()

    def _chart(self, labels: Sequence[list[str]]) -> Any:
        return getattr(charts, self.kind.capitalize())(*self.arrays, *labels, **self.options)


def show_chart(chart: Chart, key: str, name: str) -> None:
    """Show a chart with its downloads below."""
    st.plotly_chart(chart.plotly(), key=key, config=PLOTLY_CONFIG)
    download_buttons(chart, key, name)


def download_buttons(figure: Downloadable, key: str, name: str) -> None:
    """The four buttons; a file is made when its button is pressed."""
    makers = {
        "png": lambda: figure.image("png"),
        "svg": lambda: figure.image("svg"),
        "csv": figure.csv,
        "json": figure.json,
    }
    types = {"png": "image/png", "svg": "image/svg+xml", "csv": "text/csv", "json": "application/json"}
    with st.container(horizontal=True):
        for ending, make in makers.items():
            download_button(ending.upper(), make, f"{name}.{ending}", types[ending], key=f"{key}-{ending}")


def download_button(label: str, data: Any, file_name: str, mime: str | None, key: str) -> None:
    """One download below a figure; `data` may be a function that makes it when the button is pressed."""

    def made() -> Any:
        with AHEAD.waiting():
            return data()

    content = made if callable(data) else data
    st.download_button(label, content, file_name, mime, key=key, on_click="ignore", type="tertiary")
