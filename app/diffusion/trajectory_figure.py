"""A sample over the steps as files: the pictures, and the numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass

import workbench as wb
from app.downloadable import DPI
from workbench.io.files import jsonable
from workbench.plotting import matplotlib_charts
from workbench.plotting.source import Source


@dataclass(frozen=True, eq=False)
class TrajectoryFigure:
    """One sample, or one without edits and one under them.

    Attributes:
        edited: the sample under edits; None where there are none.
        source: what the files name.
    """

    over_steps: wb.Trajectory
    source: Source
    edited: wb.Trajectory | None = None

    def image(self, ending: str) -> bytes:
        """As ``png`` or ``svg``."""
        picture = self.over_steps.picture(0, self.edited)
        return matplotlib_charts.image(matplotlib_charts.add_source(picture, self.source), ending, DPI)

    def csv(self) -> bytes:
        """A row for each state: means and standard deviations, under edits also the distance from that without."""
        table = self.over_steps.table() if self.edited is None else self.edited.table(self.over_steps)
        return self.source.csv(table.assign(units="pixel values, from −1 to 1 as the model was trained on them"))

    def json(self) -> bytes:
        """Every number of every step."""
        fields = {"times": self.over_steps.times, **self._numbers(self.over_steps)}
        if self.edited is not None:
            fields["under_edits"] = {**self._numbers(self.edited), "edits": list(self.edited.edits)}
            fields["distances"] = self.over_steps.distances(self.edited)[0]
        return json.dumps(jsonable({**fields, **self.source.fields()}), ensure_ascii=False).encode()

    def _numbers(self, over_steps: wb.Trajectory) -> dict[str, object]:
        return {"latents": over_steps.latents[0], "estimates": over_steps.estimates[0]}
