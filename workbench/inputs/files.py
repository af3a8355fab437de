"""Rows of a pair file, read under stated bounds, each with the place it came from.

Files come from outside: size, encoding and syntax are checked here, the fields in `workbench.inputs.rows`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import BadInput, UsageError
from workbench.io.files import read_at_most

#: Bytes that a file and a line of it may have.
MOST_FILE, MOST_LINE = 100_000_000, 1_000_000

Row = tuple[str, Mapping[str, Any]]


def read_rows(path: Path) -> list[Row]:
    """``(where, fields)`` of every row; `where` is such as ``"my.jsonl line 3"``."""
    readers: dict[str, Callable[[str, str], list[Row]]] = {".jsonl": _jsonl, ".json": _json, ".csv": _csv}
    if path.suffix.lower() not in readers:
        raise UsageError(f"path={str(path)!r}: expected a file that ends in {', '.join(readers)}.")
    return readers[path.suffix.lower()](_read(path), path.name)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = read_at_most(file, MOST_FILE + 1)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file. Check the path; it is taken from {Path.cwd()}.") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}). Give a readable file.") from None
    if len(data) > MOST_FILE:
        raise BadInput(f"{path.name}: more than {MOST_FILE // 10**6} MB. Split the file.")
    lines = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        where = f"{path.name} line {number}"
        if len(line) > MOST_LINE and path.suffix.lower() != ".json":  # a JSON list may be one line
            raise BadInput(f"{where}: {len(line):,} bytes, and a line may have {MOST_LINE:,}. Shorten the prompts.")
        try:
            line.decode()
        except UnicodeDecodeError as error:
            problem = f"byte {line[error.start]:#04x} at column {error.start + 1} is not UTF-8"
            raise BadInput(f"{where}: {problem}. Save the file as UTF-8.") from None
    return data.decode().removeprefix("\ufeff")


def _jsonl(text: str, name: str) -> list[Row]:
    # Not splitlines(): it also cuts at U+2028 and the like, which JSON allows inside a string.
    lines = [(f"{name} line {i}", line) for i, line in enumerate(text.split("\n"), start=1) if line.strip()]
    return [(where, _object(_parse(line, where), where)) for where, line in lines]


def _json(text: str, name: str) -> list[Row]:
    if not text.strip():
        return []
    entries = _parse(text, name)
    if not isinstance(entries, list):
        raise BadInput(f"{name}: expected a list of objects, found {type(entries).__name__}. Write [{{…}}, {{…}}].")
    return [(f"{name} entry {i}", _object(entry, f"{name} entry {i}")) for i, entry in enumerate(entries, start=1)]


def _csv(text: str, name: str) -> list[Row]:
    first = text.partition("\n")[0]
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=_separator(first), skipinitialspace=_spaced(first), strict=True
    )
    rows: list[Row] = []
    header: list[str] = []
    start = 1
    try:
        for cells in reader:
            where, start = f"{name} line {start}", reader.line_num + 1
            if not cells:
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                _once([(column, "") for column in header], where)
                continue
            if len(cells) != len(header):
                raise BadInput(
                    f"{where}: expected as many cells as the header has, {len(header)}, found {len(cells)}. Quote a "
                    "cell that contains a separator."
                )
            rows.append((where, {key: _cell(key, cell, where) for key, cell in zip(header, cells, strict=True)}))
    except csv.Error as error:
        raise BadInput(f"{name} line {reader.line_num}: not valid CSV ({error}).") from None
    return _without_index(rows, header, name)


def _separator(header: str) -> str:
    """What separates the columns: of comma, semicolon and tab the one that occurs most often in the header."""
    return max(",;\t", key=header.count)


def _spaced(header: str) -> bool:
    """Whether the file has a space after every separator, which then belongs to no cell."""
    separator = _separator(header)
    return separator != "\t" and header.count(separator) == header.count(separator + " ") > 0


def _without_index(rows: list[Row], header: list[str], name: str) -> list[Row]:
    """The rows without a first column of numbers that has no name, as pandas saves its index."""
    if not header or header[0] not in ("", "Unnamed: 0"):
        return rows
    if not all(str(row[header[0]]).isdecimal() for _, row in rows):
        raise BadInput(f"{name} line 1: the first column has no name. Name it, or leave it out.")
    return [(where, {key: cell for key, cell in row.items() if key != header[0]}) for where, row in rows]


def _cell(column: str, cell: str, where: str) -> str | list[str]:
    if cell.lstrip() != cell and cell.lstrip().startswith('"'):
        raise BadInput(
            f"{where}: {column} has a space before its quotes. Put no space after separators, or one after each in the "
            "header too."
        )
    return cell.split("|") if column in ("answer", "wrong", "options") and "|" in cell else cell


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=lambda fields: _once(fields, where))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}" if "\n" in text.strip() else f"column {error.colno}"
        raise BadInput(f"{where}: not valid JSON ({error.msg} at {place}). Write one JSON object per pair.") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets nested by the thousand
        raise BadInput(
            f"{where}: JSON nested too deeply, or a number too large. Write one flat JSON object per pair."
        ) from None


def _once(fields: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    names = [name for name, _ in fields]
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadInput(f"{where}: the field {twice[0]!r} occurs twice. Write it once.")
    return dict(fields)


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise BadInput(f'{where}: expected an object, found {kind}. Write {{"clean": …, "corrupt": …, …}}.')
    return value
