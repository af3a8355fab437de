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
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    try:
        header = list(reader.fieldnames or ())
        if len(header) == 1 and any(separator in header[0] for separator in ";\t"):
            raise BadInput(f"{name} line 1: the columns are not separated by commas. Separate them by commas.")
        _once([(column, "") for column in header], f"{name} line 1")
        for row in reader:
            where = f"{name} line {reader.line_num}"
            if None in row or None in row.values():
                raise BadInput(
                    f"{where}: expected as many cells as the header has. Quote a cell that contains a comma."
                )
            rows.append((where, {key: _cell(key, cell) for key, cell in row.items()}))
    except csv.Error as error:
        raise BadInput(f"{name} line {reader.line_num}: not valid CSV ({error}).") from None
    return rows


def _cell(column: str, cell: str) -> str | list[str]:
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
