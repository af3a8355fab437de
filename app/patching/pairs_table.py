"""Pairs of the user's own as rows of a table that can be typed into: pure functions, without widgets.

A row of a pair file holds lists and leading spaces; the table holds one text per cell. A leading space of an answer is
written ``·`` there: typing a space first only opens the cell, and the table shows none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from app import upload_store
from workbench.inputs.pairs import Pair
from workbench.plotting.attention_view import visible

ANSWERS = ("answer", "wrong")
COLUMNS = ("clean", "corrupt", *ANSWERS)
#: Pairs whose answers are spelt out.
MAX_SPELT = 6
_SPACE, _SEPARATOR = "·", "|"


def to_cell(value: str | Sequence[str]) -> str:
    """An answer, or several, as one cell: ``" Mary"`` → ``"·Mary"``, ``[" a", " an"]`` → ``"·a|·an"``."""
    parts = [value] if isinstance(value, str) else value
    return _SEPARATOR.join(_SPACE + part[1:] if part.startswith(" ") else part for part in parts)


def from_cell(text: str) -> str | list[str]:
    """The inverse of `to_cell`."""
    parts = [" " + part[1:] if part.startswith(_SPACE) else part for part in text.split(_SEPARATOR)]
    return parts if len(parts) > 1 else parts[0]


def to_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Rows of a pair file as rows of the table."""
    return [{name: _to_cell(name, row[name]) for name in COLUMNS} for row in rows]


def from_table(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Rows of the table as rows of a pair file."""
    return [{name: _from_cell(name, str(row[name])) for name in COLUMNS} for row in rows]


def to_rows(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Pairs as rows of a pair file."""
    return [_to_row(pair) for pair in pairs]


def save_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Store rows of a pair file; its hash.

    Raises:
        BadInput: it is too large.
    """
    return upload_store.save("".join(json.dumps(row) + "\n" for row in rows).encode())


def load_rows(name: str) -> list[dict[str, Any]]:
    """The rows of a stored pair file.

    Raises:
        BadInput: nothing of that hash is on this machine.
    """
    return [json.loads(line) for line in upload_store.load(name).decode().splitlines()]


def spell_answers(rows: Sequence[Mapping[str, str]]) -> str:
    """The answers of the table, with their spaces visible; empty where there are no rows."""
    if not rows:
        return ""
    pairs = ", ".join(f"{_spell(row['answer'])} over {_spell(row['wrong'])}" for row in rows[:MAX_SPELT])
    rest = f" and {len(rows) - MAX_SPELT} more" if len(rows) > MAX_SPELT else ""
    return f"Answers: {pairs}{rest} (· is a space)."


def count_without_space(rows: Sequence[Mapping[str, str]]) -> int:
    """How many rows have an answer without a leading space; the first token of a word mostly has one."""
    answers = [[text for name in ANSWERS for text in row[name].split(_SEPARATOR) if text] for row in rows]
    return sum(any(not text.startswith((" ", _SPACE)) for text in texts) for texts in answers)


def _to_cell(name: str, value: str | Sequence[str]) -> str:
    if name in ANSWERS:
        return to_cell(value)
    return value if isinstance(value, str) else _SEPARATOR.join(value)


def _from_cell(name: str, text: str) -> str | list[str]:
    return from_cell(text) if name in ANSWERS else text


def _to_row(pair: Pair) -> dict[str, Any]:
    row: dict[str, Any] = {
        "clean": pair.clean,
        "corrupt": pair.corrupt,
        "answer": list(pair.answer),
        "wrong": list(pair.wrong),
    }
    if pair.options:
        row["options"] = list(pair.options)
    if pair.positions:
        row["positions"] = {name: list(span) for name, span in pair.positions.items()}
    return row


def _spell(text: str) -> str:
    return _SEPARATOR.join(map(visible, text.split(_SEPARATOR)))
