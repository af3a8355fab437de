"""The map of a head over the image as files: the picture, and the weights of all positions."""

from __future__ import annotations

import json
from dataclasses import dataclass

import workbench as wb
from app.downloadable import DPI
from workbench.io.files import jsonable
from workbench.plotting import matplotlib_charts
from workbench.plotting.source import Source


@dataclass(frozen=True, eq=False)
class MapFigure:
    """What a head attends to from a position.

    Attributes:
        head: its index in the layer.
        position: a label.
        source: what the files name.
    """

    seen: wb.ImageAttention
    head: int
    position: str
    source: Source

    def image(self, ending: str) -> bytes:
        """As ``png`` or ``svg``."""
        picture = self.seen.picture(self.head, self.position)
        return matplotlib_charts.image(matplotlib_charts.add_source(picture, self.source), ending, DPI)

    def csv(self) -> bytes:
        """A row for each position that is attended to; the last columns say from where, in which units, and of what."""
        table = self.seen.table(self.head, self.position)
        return self.source.csv(table.assign(**{"from": self.position, "units": self.seen.units}))

    def json(self) -> bytes:
        """The weights by position, and those of the patches in rows and columns."""
        fields = {
            "title": self.seen.title(self.head, self.position),
            "units": self.seen.units,
            "from": self.position,
            "labels": self.seen.labels,
            "weights": self.seen.weights(self.head, self.position),
            "patches": self.seen.patches(self.head, self.position),
            **self.source.fields(),
        }
        return json.dumps(jsonable(fields), ensure_ascii=False).encode()
