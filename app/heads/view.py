"""What the page Heads shows: its parts are given this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.heads.asking import Asking
from app.heads.score import Score
from app.heads.selection import Selection
from app.part import Part
from workbench.registry import Registry

#: The parts of the page, by name.
PARTS: Registry[Part[View]] = Registry("app.heads.parts", "part")


@dataclass(frozen=True, eq=False)
class View:
    """One head on one prompt.

    Attributes:
        selection: the model, the prompt's record and the open head.
        score_name: the value of the URL's ``score``.
        score: the score of all heads that the grid shows.
        asking: the position that the page asks about, and what it asks.
        prompts: of the task that is scored, as `load_prompts` takes them; None for the side bar's prompt.
    """

    selection: Selection
    score_name: str
    score: Score
    asking: Asking
    prompts: dict[str, Any] | None = None
