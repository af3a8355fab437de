"""Rows of a pair file, read under stated bounds, each with the place it came from.

Files come from outside: size, encoding and syntax are checked here, the fields in `workbench.inputs.rows`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import BadInput, UsageError
from workbench.inputs.rows import COLUMNS, REQUIRED, check_fields
from workbench.io.files import read_at_most

#: Bytes that a file and a line of it may have.
MOST_FILE, MOST_LINE = 100_000_000, 1_000_000

Row = tuple[str, Mapping[str, Any]]

#: Names of a CSV's first column that holds pandas' index.
_INDEX = ("", "Unnamed: 0")
_BETWEEN_ENTRIES = re.compile(r"[\s,]*")


def read_rows(path: Path, argument: str = "path") -> list[Row]:
    """`parse_rows` of a file; messages call it `argument`."""
    if path.suffix.lower() not in _PARSERS:
        raise UsageError(f"{argument}={str(path)!r}: expected a file that ends in {', '.join(_PARSERS)}.")
    try:
        with path.open("rb") as file:
            data = read_at_most(file, MOST_FILE + 1)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file. Check the path; it is taken from {Path.cwd()}.") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}). Give a readable file.") from None
    return parse_rows(data, path.name)


def parse_rows(data: bytes, name: str, left_out: Collection[str] = ()) -> list[Row]:
    """``(where, fields)`` of every row of a file of that name; `where` is such as ``"my.jsonl line 3"``, the line on
    which the row begins.

    Args:
        left_out: columns that a CSV may have besides those of a pair, and that are not read.

    Raises:
        UsageError: another kind of file.
        BadInput: the file is too large, no UTF-8, without pairs, or cannot be read as what its name says.
    """
    ending = Path(name).suffix.lower()
    if ending not in _PARSERS:
        raise UsageError(f"{name}: expected a file that ends in {', '.join(_PARSERS)}.")
    text = _decode(data, name, ending)
    rows = _csv(text, name, left_out) if ending == ".csv" else _PARSERS[ending](text, name)
    if not rows:
        raise BadInput(f"{name}: no pairs in it. Give at least one, with the fields {', '.join(REQUIRED)}.")
    return rows


def _decode(data: bytes, name: str, ending: str) -> str:
    if len(data) > MOST_FILE:
        raise BadInput(f"{name}: more than {MOST_FILE // 10**6} MB. Split the file.")
    lines = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        where = f"{name} line {number}"
        if len(line) > MOST_LINE and ending != ".json":  # a JSON list may be one line
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
    where = [f"{name} entry {i} (line {line})" for i, line in enumerate(_lines_of_entries(text), start=1)]
    return [(place, _object(entry, place)) for place, entry in zip(where, entries, strict=True)]


def _lines_of_entries(text: str) -> list[int]:
    """The line on which each entry of a valid JSON list begins."""
    decoder, lines, line, at = json.JSONDecoder(), [], 1, 0
    start = _BETWEEN_ENTRIES.match(text, text.index("[") + 1)
    while start is not None and text[start.end()] != "]":
        line, at = line + text.count("\n", at, start.end()), start.end()
        lines.append(line)
        _, end = decoder.raw_decode(text, at)
        start = _BETWEEN_ENTRIES.match(text, end)
    return lines


def _csv(text: str, name: str, left_out: Collection[str] = ()) -> list[Row]:
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
                _check_header([column for column in header if column not in left_out], where)
                continue
            if len(cells) != len(header):
                raise BadInput(
                    f"{where}: expected as many cells as the header has, {len(header)}, found {len(cells)}. Quote a "
                    "cell that contains a separator."
                )
            named = [(key, cell) for key, cell in zip(header, cells, strict=True) if key not in left_out]
            rows.append((where, {key: _cell(key, cell, where) for key, cell in named}))
    except csv.Error as error:
        raise BadInput(
            f"{name} line {start}: not valid CSV in the row that begins here ({error}). Close every quote, and double "
            "those inside a cell."
        ) from None
    return _without_index(rows, header, name)


def _check_header(header: list[str], where: str) -> None:
    """Refuse a first row that is no header, and one with other columns than those of a pair."""
    names = header[1:] if header[0] in _INDEX else header
    if not set(names) & set(COLUMNS):
        expected = f"a header with the columns {', '.join(REQUIRED)}"
        raise BadInput(f"{where}: expected {expected}, found {header!r:.60}. Write the header as the first line.")
    _once([(column, "") for column in header], where)
    check_fields(names, where)


def _separator(header: str) -> str:
    """What separates the columns: of comma, semicolon and tab the one that occurs most often in the header."""
    return max(",;\t", key=header.count)


def _spaced(header: str) -> bool:
    """Whether the file has a space after every separator, which then belongs to no cell."""
    separator = _separator(header)
    return separator != "\t" and header.count(separator) == header.count(separator + " ") > 0


def _without_index(rows: list[Row], header: list[str], name: str) -> list[Row]:
    """The rows without a first column of numbers that has no name, as pandas saves its index."""
    if not header or header[0] not in _INDEX:
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


_PARSERS: dict[str, Callable[[str, str], list[Row]]] = {".jsonl": _jsonl, ".json": _json, ".csv": _csv}
