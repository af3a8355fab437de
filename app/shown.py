"""A figure in the page, with what is downloaded of it: the very object that is shown, as PNG, SVG, CSV and JSON."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import streamlit as st

from app.plotted import safe
from workbench.io.files import jsonable
from workbench.plotting import charts

if TYPE_CHECKING:
    import pandas as pd


class Downloaded(Protocol):
    """What can be downloaded of a figure."""

    def still(self, ending: str) -> bytes: ...

    def csv(self) -> bytes: ...

    def json(self) -> bytes: ...


@dataclass(frozen=True, eq=False)
class Shown:
    """One heatmap or bar chart: its numbers, its labels and its words.

    Attributes:
        kind: ``heatmap`` (`arrays` holds the values) or ``bars`` (values, lower and upper ends).
        labels: of the columns, and of the rows of a heatmap.
        words: title, subtitle, scale, axis names and note, as `workbench.plotting.charts` takes them.
        about: what else the data say of themselves: the model, the prompt.
    """

    kind: str
    arrays: tuple[np.ndarray, ...]
    labels: tuple[list[str], ...]
    words: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)

    def plotly(self) -> Any:
        """For the page. Plotly reads tags in what it writes, and a token may look like one."""
        labels = [[safe(label) for label in axis] for axis in self.labels]
        return getattr(charts, self.kind.capitalize())(*self.arrays, *labels, **self.words).figure()

    def still(self, ending: str) -> bytes:
        """As ``png`` or ``svg``."""
        stream = io.BytesIO()
        chart = getattr(charts, self.kind.capitalize())(*self.arrays, *self.labels, **self.words)
        chart.picture().savefig(stream, format=ending, dpi=200)
        return stream.getvalue()

    def table(self) -> pd.DataFrame:
        """The numbers: the rows and columns of a heatmap, or a row a bar."""
        import pandas as pd

        if self.kind == "heatmap":
            corner = f"{self.words.get('y_title', '')} \\ {self.words.get('x_title', '')}"
            return pd.DataFrame(self.arrays[0], index=pd.Index(self.labels[1], name=corner), columns=self.labels[0])
        value, low, high = self.arrays
        table = pd.DataFrame({"name": self.labels[0], "value": value, "low": low, "high": high})
        if "reference" in self.words:
            table[self.words["reference_name"]] = self.words["reference"]
        return table

    def csv(self) -> bytes:
        """The exact numbers."""
        return self.table().to_csv(index=self.kind == "heatmap").encode()

    def json(self) -> bytes:
        """The exact numbers with their labels and words."""
        names = ("values",) if self.kind == "heatmap" else ("values", "low", "high")
        about = {"kind": self.kind, **self.words, "labels": self.labels, **self.about}
        data = {name: array for name, array in zip(names, self.arrays, strict=True)}
        return json.dumps(jsonable({**about, **data}), ensure_ascii=False).encode()


def show(shown: Shown, key: str, name: str) -> None:
    """Draw it, with its downloads below."""
    st.plotly_chart(shown.plotly(), key=key, config={"displaylogo": False})
    downloads(shown, key, name)


def downloads(shown: Downloaded, key: str, name: str) -> None:
    """The four buttons; a file is made when it is asked for."""
    makers = {
        "png": lambda: shown.still("png"),
        "svg": lambda: shown.still("svg"),
        "csv": shown.csv,
        "json": shown.json,
    }
    types = {"png": "image/png", "svg": "image/svg+xml", "csv": "text/csv", "json": "application/json"}
    with st.container(horizontal=True):
        for ending, make in makers.items():
            st.download_button(
                ending.upper(),
                make,
                f"{name}.{ending}",
                types[ending],
                key=f"{key}-{ending}",
                on_click="ignore",
                type="tertiary",
            )
