"""Pairs of the user's own as the explorer stores them: their rows, each with its line, and the name of their file.

The name is part of what is stored and hashed, so that a URL cannot give a file's name to other pairs.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from app import upload_store
from workbench.errors import BadInput
from workbench.inputs.pairs import Pairs
from workbench.inputs.rows import REQUIRED, PairNotice, check_fields, pair_from_row
from workbench.io.files import parse_json

#: What pairs without a file are called, before and after something is typed.
EXAMPLE, TYPED = "example pairs", "typed pairs"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class StoredPairs:
    """Rows of a pair file, which need not be pairs that a model can be asked.

    Attributes:
        rows: of a file, or typed; each `fits` the table.
        lines: where each is in the file (``line 3``); empty for one that was typed.
        file: the file's own name, as `upload_store.file_name` gives it; empty without a file.
        edited: whether something was typed.
        left_out: how many rows of the file the user has left out.
    """

    rows: tuple[Row, ...]
    lines: tuple[str, ...]
    file: str = ""
    edited: bool = False
    left_out: int = 0

    @property
    def name(self) -> str:
        """What these pairs are called: ``my.csv``, ``my.csv (edited, 2 rows left out)``, ``typed pairs``."""
        left_out = f"{self.left_out} row{'s' * (self.left_out > 1)} left out" if self.left_out else ""
        changes = ", ".join(filter(None, ["edited" if self.edited else "", left_out]))
        if not self.file:
            return TYPED if changes else EXAMPLE
        return f"{self.file} ({changes})" if changes else self.file

    @property
    def where(self) -> tuple[str, ...]:
        """The place of each row, for messages: ``my.csv line 3``, ``typed pairs row 2``."""
        name, typed = (self.file, ", typed") if self.file else (self.name, "")
        return tuple(f"{name} {line or f'row {i}{typed}'}" for i, line in enumerate(self.lines, start=1))

    def pairs(self) -> Pairs:
        """As the engine takes them.

        Raises:
            BadInput: one of the rows is no pair: its place and the reason.
        """
        if not self.rows:
            raise BadInput(f"{self.name}: there are no pairs. Type one, or upload a file.")
        places = self.where
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PairNotice)  # the page says it
            return Pairs(tuple(map(pair_from_row, self.rows, places)), places, self.name)

    def save(self) -> str:
        """Store them; their hash.

        Raises:
            BadInput: they are too large.
        """
        return upload_store.save(json.dumps(asdict(self), sort_keys=True, ensure_ascii=False).encode())


def load_stored(name: str) -> StoredPairs:
    """The pairs of that hash.

    Raises:
        BadInput: nothing of that hash is on this machine, or something else.
    """
    fields = parse_json(upload_store.load(name, "a set of pairs"), "The pairs of the URL")
    try:
        stored = StoredPairs(**{**fields, "rows": tuple(fields["rows"]), "lines": tuple(map(str, fields["lines"]))})
        if len(stored.rows) == len(stored.lines) and all(map(fits, stored.rows)) and stored.name:
            return stored
    except (TypeError, KeyError):
        pass
    raise BadInput(
        "The URL refers to a set of pairs, but what is stored under that hash holds none. Copy the whole URL."
    )


def fits(row: Row) -> bool:
    """Whether a row has the fields of a pair, and texts where the table has cells of text."""
    try:
        check_fields(row, "")
        json.dumps(row, ensure_ascii=False).encode()  # half of a character can be neither drawn nor stored
    except (BadInput, UnicodeEncodeError):
        return False
    return (
        isinstance(row["clean"], str) and isinstance(row["corrupt"], str) and all(_is_texts(row[x]) for x in REQUIRED)
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and len(value) > 0 and all(isinstance(text, str) for text in value)
    )
