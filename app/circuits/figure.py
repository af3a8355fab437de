"""A circuit's graph as a figure: for the page and for the downloads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.circuits.graph import CircuitGraph
from app.circuits.matplotlib_figure import matplotlib_image
from app.circuits.plotly_figure import plotly_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class CircuitFigure:
    """What is shown and downloaded of a graph."""

    graph: CircuitGraph

    def plotly(self) -> Figure:
        """For the page."""
        return plotly_figure(self.graph)

    def image(self, ending: str) -> bytes:
        """As ``png`` or ``svg``."""
        return matplotlib_image(self.graph, ending)

    def csv(self) -> bytes:
        """The exact numbers."""
        return self.graph.csv()

    def json(self) -> bytes:
        """The exact numbers with their labels."""
        return self.graph.json()
