"""A circuit's graph as a figure: for the page and for the downloads."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.circuits.graph import CircuitGraph
from app.circuits.matplotlib_figure import matplotlib_picture
from app.circuits.plotly_figure import plotly_figure
from workbench.io.files import jsonable
from workbench.io.tables import ascii_minus
from workbench.plotting import matplotlib_charts
from workbench.plotting.source import Source

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class CircuitFigure:
    """What is shown and downloaded of a graph."""

    graph: CircuitGraph
    source: Source = field(default_factory=Source)

    def plotly(self) -> Figure:
        """For the page."""
        return plotly_figure(self.graph)

    def image(self, ending: str) -> bytes:
        """As ``png`` or ``svg``."""
        return matplotlib_charts.image(
            matplotlib_charts.add_source(matplotlib_picture(self.graph), self.source), ending
        )

    def csv(self) -> bytes:
        """The exact numbers."""
        return self.source.csv(self.graph.table())

    def json(self) -> bytes:
        """The exact numbers with their labels."""
        fields = {**self.graph.fields(), "note": ascii_minus(self.graph.note), **self.source.fields()}
        return json.dumps(jsonable(fields), ensure_ascii=False).encode()
