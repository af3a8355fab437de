"""What the page Vision shows: its parts are given this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import workbench as wb
from app.heads.score import Score
from app.part import Part
from app.swapped_names import result_name
from workbench.core import Head
from workbench.example_names import named_image
from workbench.plotting.source import Source
from workbench.registry import Registry

#: The parts of the page, by name.
PARTS: Registry[Part[View]] = Registry("app.vision.parts", "part")


@dataclass(frozen=True, eq=False)
class View:
    """One head on one image.

    Attributes:
        model_name: the model's name in the explorer.
        images: of one image.
        selected: the same image as a job names it (`app.work.images.read_image`).
        head: the open one.
        score_name: the value of the URL's ``image-score``.
        score: of all heads, as the grid shows it.
    """

    model_name: str
    model: Any
    images: wb.Images
    selected: Mapping[str, Any]
    head: Head
    score_name: str
    score: Score

    @property
    def source(self) -> Source:
        """Model, image and head, as figures and downloads name them."""
        (picture,) = self.images.pictures
        image = named_image(picture.name, picture.sha256)
        return Source(result_name(self.model_name), head=str(self.head), image=image)

    @property
    def source_of_all_heads(self) -> Source:
        """The same without the head."""
        return replace(self.source, head="")
