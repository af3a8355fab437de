"""One prompt on one model with a chosen head: what a page shows, or each side of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app import models, sidebar
from app.heads.prompt_record import PromptRecord
from workbench.core import Head


@dataclass(frozen=True, eq=False)
class Selection:
    """What is looked at.

    Attributes:
        label: which side of a comparison it is, in a word or two.
        name: the model's name in the explorer.
    """

    label: str
    model_name: str
    model: Any
    record: PromptRecord
    head: Head

    @property
    def metadata(self) -> dict[str, str]:
        """The same for the data that are downloaded."""
        return {
            "model": self.model_name,
            "prompt": str(self.model.tokenizer.decode(self.record.ids)),
            "head": str(self.head),
        }


def sidebar_selection() -> Selection:
    """The model, prompt and head of the side bar."""
    name = sidebar.model_name()
    model = models.load(name)
    return Selection("first", name, model, models.look(name, sidebar.token_ids(model)), sidebar.selected_head(model))


def nearest_head(model: Any, head: Head) -> Head:
    """That head, or the nearest that this model has."""
    return Head(min(max(head.layer, 0), model.n_layers - 1), min(max(head.index, 0), model.n_heads - 1))
