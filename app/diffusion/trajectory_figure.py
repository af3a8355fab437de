"""A sample over the steps as files: the pictures, and the numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

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
        """A row for each pixel of each step: of the sample before it, and of the image that its prediction points at
        (none of the finished sample, whose step is the number of steps); under edits both again, and how far that
        step's sample is from the one without."""
        columns = _pixels(self.over_steps)
        if self.edited is not None:
            edited = _pixels(self.edited)
            columns |= {f"{name}_under_edits": edited[name] for name in ("sample", "prediction")}
            columns["distance"] = self.over_steps.distances(self.edited)[0][columns["step"]]
        table = pd.DataFrame(columns)
        return self.source.csv(
            table.assign(units="numbers of the sample, from −1 to 1 as the model was trained on them")
        )

    def json(self) -> bytes:
        """Every number of every step."""
        fields = {"times": self.over_steps.times, **self._numbers(self.over_steps)}
        if self.edited is not None:
            fields["under_edits"] = {**self._numbers(self.edited), "edits": list(self.edited.edits)}
            fields["distances"] = self.over_steps.distances(self.edited)[0]
        return json.dumps(jsonable({**fields, **self.source.fields()}), ensure_ascii=False).encode()

    def _numbers(self, over_steps: wb.Trajectory) -> dict[str, object]:
        return {"latents": over_steps.latents[0], "estimates": over_steps.estimates[0]}


def _pixels(over_steps: wb.Trajectory) -> dict[str, np.ndarray]:
    """Columns of the first sample: step, time, the pixel's place, and its number in both."""
    samples, times = over_steps.latents[0], np.array([*over_steps.times, 0.0])
    predictions = np.concatenate([over_steps.estimates[0], np.full_like(samples[:1], np.nan)])
    step, *place = (index.ravel() for index in np.indices(samples.shape))
    names = ("channel", "row", "column") if len(place) == 3 else ("channel", "frame", "row", "column")
    numbers = {"sample": samples.ravel(), "prediction": predictions.ravel()}
    return {"step": step, "time": times[step], **dict(zip(names, place, strict=True)), **numbers}
