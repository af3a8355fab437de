"""The selected model, prompt and head: what the page Heads shows, or one side of a comparison."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app import models, sidebar
from app.heads.prompt_record import PromptRecord
from app.heads.records import prompt_record
from app.swapped_names import result_name
from workbench.core import Head
from workbench.errors import UsageError
from workbench.plotting.source import Source


@dataclass(frozen=True, eq=False)
class Selection:
    """One head on one prompt of one model.

    Attributes:
        label: which side of a comparison it is, in a word or two.
        model_name: the model's name in the explorer.
        record: the prompt's activations and scores.
    """

    label: str
    model_name: str
    model: Any
    record: PromptRecord
    head: Head

    @property
    def labels(self) -> tuple[str, ...]:
        """A label for each position, as the model gives it: its token, or its index."""
        return self.record.tokens

    @property
    def source(self) -> Source:
        """The same, as figures and downloads name it."""
        prompt = str(self.model.tokenizer.decode(self.record.ids))
        return Source(result_name(self.model_name), prompt, str(self.head))


def sidebar_selection() -> Selection:
    """The model, prompt and head of the side bar."""
    name = sidebar.model_name()
    model = models.load(name)
    record = prompt_record(name, sidebar.token_ids(model))
    return Selection("first", name, model, record, open_head(name, model))


def open_head(model_name: str, model: Any) -> Head:
    """The head that is open on every page: the selected one or, until there is one, the head that most directly raises
    or lowers the next token of the side bar's prompt."""

    def strongest_head() -> Head | None:
        with suppress(UsageError):  # no prompt, or one that is too long: a page that shows it says so
            return prompt_record(model_name, sidebar.token_ids(model)).strongest_head()

    sidebar.suggest_head(strongest_head)
    return sidebar.selected_head(model)
