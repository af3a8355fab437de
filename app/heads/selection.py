"""One prompt on one model with a chosen head: what a page shows, or each side of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app import models, sidebar
from app.heads.prompt_record import Look
from workbench.core import Head


@dataclass(frozen=True, eq=False)
class Side:
    """What is looked at.

    Attributes:
        label: which side of a comparison it is, in a word or two.
        name: the model's name in the explorer.
    """

    label: str
    name: str
    model: Any
    look: Look
    head: Head

    @property
    def about(self) -> dict[str, str]:
        """The same for the data that are downloaded."""
        return {"model": self.name, "prompt": str(self.model.tokenizer.decode(self.look.ids)), "head": str(self.head)}


def chosen_side() -> Side:
    """The model, prompt and head of the side bar."""
    name = sidebar.model_name()
    model = models.load(name)
    return Side("first", name, model, models.look(name, sidebar.ids(model)), sidebar.head(model))


def head_within(model: Any, head: Head) -> Head:
    """That head, or the nearest that this model has."""
    return Head(min(max(head.layer, 0), model.n_layers - 1), min(max(head.index, 0), model.n_heads - 1))
