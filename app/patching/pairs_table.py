"""Pairs of the user's own as rows of a table that can be typed into: pure functions, without widgets.

A row of a pair file holds lists and leading spaces; the table holds one text per cell. A leading space of an answer is
written ``·`` there: typing a space first only opens the cell, and the table shows none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from app.work.stored_pairs import Row, StoredPairs
from workbench.inputs.rows import REQUIRED as COLUMNS
from workbench.plotting.attention_view import visible

ANSWERS = ("answer", "wrong")
#: Columns that cannot be typed into: where a row comes from, and why it cannot be used.
PLACE, PROBLEM = OWN = ("where", "problem")
#: The columns as they stand in the page: what is short first, or long prompts push the answers out of a narrow window.
ORDER = (PLACE, *ANSWERS, PROBLEM, "clean", "corrupt")
#: Before the place of a row that cannot be used.
MARK = "⚠ "
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


def to_cells(row: Row) -> dict[str, str]:
    """A row of a pair file as cells of the table."""
    return {name: to_cell(row[name]) if name in ANSWERS else row[name] for name in COLUMNS}


def to_table(pairs: StoredPairs, problems: Sequence[str]) -> pd.DataFrame:
    """The rows as a table, in the order of the file; where each comes from and what is wrong with it, where that says
    something.

    Args:
        problems: of each row; empty for one that can be used.
    """
    table = pd.DataFrame([to_cells(row) for row in pairs.rows], columns=list(COLUMNS), dtype=str)
    if any(pairs.lines) or any(problems):
        places = [line or f"row {i}" for i, line in enumerate(pairs.lines, start=1)]
        marked = [MARK * bool(problem) + place for place, problem in zip(places, problems, strict=True)]
        table.insert(0, PLACE, marked)
    if any(problems):
        table.insert(1, PROBLEM, list(problems))
    return table


def from_export(rows: Sequence[tuple[str, Row]], data: bytes) -> list[tuple[str, Row]]:
    """Rows of a file that was downloaded from this table, which its own columns show: the answers with their spaces.
    Those of any other file as they are."""
    header = {cell.strip(' "\r') for cell in data.decode("utf-8-sig", errors="replace").partition("\n")[0].split(",")}
    if not {PLACE, *COLUMNS} <= header:
        return list(rows)
    return [(where, {**row, **{name: _answers(row[name]) for name in ANSWERS}}) for where, row in rows]


def _answers(value: str | Sequence[str]) -> str | list[str]:
    return from_cell(value if isinstance(value, str) else _SEPARATOR.join(value))


def edited_pairs(pairs: StoredPairs, table: pd.DataFrame) -> StoredPairs:
    """The pairs of a table that was typed into, without its empty rows; `pairs` itself where nothing has changed.

    The table's index says which row of `pairs` each one was. What was not typed stays as it is in the file, with
    options and positions as far as they still fit.
    """
    rows: list[Row] = []
    lines: list[str] = []
    for index, typed in _typed(pairs, table):
        old = pairs.rows[index] if index < len(pairs.rows) else None
        if old is None:
            rows.append({name: _from_cell(name, typed[name]) for name in COLUMNS})
            lines.append("")
        else:
            rows.append(_edited(old, typed))
            line = pairs.lines[index]
            is_new = rows[-1] != old and line and not line.endswith(_EDITED)
            lines.append(line + _EDITED if is_new else line)
    if rows == list(pairs.rows):
        return pairs
    return StoredPairs(tuple(rows), tuple(lines), pairs.file, True, pairs.left_out)


def marks_differ(pairs: StoredPairs, table: pd.DataFrame, edited: StoredPairs, problems: Sequence[str]) -> bool:
    """Whether the marks that a table shows are no longer those of its rows. Rows that are being typed are not counted.

    Args:
        edited: `edited_pairs` of the table.
        problems: what is wrong with each of these.
    """
    column = table[PROBLEM].fillna("") if PROBLEM in table else pd.Series("", index=table.index)
    marks = [column.loc[index] for index, _ in _typed(pairs, table)]
    return any(
        mark != problem and all(row[name] for name in COLUMNS)
        for row, mark, problem in zip(edited.rows, marks, problems, strict=True)
    )


def styled(table: pd.DataFrame) -> Any:
    """The table with its marked rows coloured, where nothing can be typed (Streamlit colours no other cells)."""
    if PROBLEM not in table:
        return table
    columns = [PLACE, PROBLEM]
    colours = [_MARKED if problem else "" for problem in table[PROBLEM]]
    return table.style.apply(lambda _: colours, subset=columns)


def without_rows(pairs: StoredPairs, numbers: Sequence[int]) -> StoredPairs:
    """The pairs without the rows of those numbers, from 1."""
    others = [i for i in range(len(pairs.rows)) if i + 1 not in numbers]
    rows, lines = tuple(pairs.rows[i] for i in others), tuple(pairs.lines[i] for i in others)
    return StoredPairs(rows, lines, pairs.file, pairs.edited, pairs.left_out + len(pairs.rows) - len(others))


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


_EDITED = ", edited"
_MARKED = "background-color: rgba(255, 75, 75, 0.16)"


def _typed(pairs: StoredPairs, table: pd.DataFrame) -> list[tuple[int, dict[str, str]]]:
    """The index and the cells of each row but those that were emptied, or were added and are still empty."""
    cells = table.reindex(columns=list(COLUMNS)).fillna("").astype(str)
    empty = {i for i, row in enumerate(pairs.rows) if not any(to_cells(row).values())}  # so in the file
    rows = zip(cells.index, cells.to_dict("records"), strict=True)
    return [(int(index), row) for index, row in rows if any(row.values()) or index in empty]


def _edited(old: Row, typed: Mapping[str, str]) -> Row:
    """A row with what was typed into it."""
    before = to_cells(old)
    row: dict[str, Any] = {**old}
    row |= {name: _from_cell(name, typed[name]) for name in COLUMNS if typed[name] != before[name]}
    words = {word for name in ANSWERS for word in ([row[name]] if isinstance(row[name], str) else row[name])}
    if isinstance(row.get("options"), list) and not words <= set(map(str, row["options"])):
        del row["options"]
    if row.get("positions") and row["clean"] != old["clean"]:
        spans: Mapping[str, Any] = row["positions"] if isinstance(row["positions"], Mapping) else {}
        stay = {k: word for k, word in spans.items() if isinstance(word, str) and row["clean"].count(word) == 1}
        row["positions"] = stay
    return row


def _from_cell(name: str, text: str) -> str | list[str]:
    return from_cell(text) if name in ANSWERS else text


def _spell(text: str) -> str:
    return _SEPARATOR.join(map(visible, text.split(_SEPARATOR)))
