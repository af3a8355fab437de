"""What the page Diffusion shows: its parts are given this."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import workbench as wb
from app.diffusion.sampled import Settings
from app.part import Part
from app.swapped_names import result_name
from workbench.core import Head
from workbench.plotting.source import Source
from workbench.registry import Registry

#: The parts of the page, by name.
PARTS: Registry[Part[View]] = Registry("app.diffusion.parts", "part")


@dataclass(frozen=True, eq=False)
class View:
    """One head in one step of a sample.

    Attributes:
        model_name: the model's name in the explorer.
        base: the model as it was loaded.
        model: the same, sampled as `settings` says, reading pixels.
        head, step: the open ones.
        over_steps: the sample without edits.
        readout: the classifier that metrics read; empty for pixels.
    """

    model_name: str
    base: Any
    model: Any
    settings: Settings
    head: Head
    step: int
    over_steps: wb.Trajectory
    readout: str = ""

    @property
    def source(self) -> Source:
        """Model and sample, as figures and downloads name them."""
        return Source(result_name(self.model_name), details=self.settings.details)

    @property
    def source_of_step(self) -> Source:
        """The same with the open head and step."""
        return with_details(replace(self.source, head=str(self.head)), step=str(self.step))


def with_details(source: Source, **details: str) -> Source:
    """A source with further facts."""
    return replace(source, details=(*source.details, *details.items()))
