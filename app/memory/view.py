"""What the page Memory shows: its parts are given this."""

from __future__ import annotations

from dataclasses import dataclass

from app.part import Part
from workbench.registry import Registry

#: The parts of the page, by name.
PARTS: Registry[Part[View]] = Registry("app.memory.parts", "part")


@dataclass(frozen=True)
class View:
    """What is common to the parts.

    Attributes:
        model_name: the model's name in the explorer. It is not loaded: only recorded heads need it.
    """

    model_name: str
