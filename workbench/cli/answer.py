"""What a verb answers, and how it reaches the terminal: one JSON object, or text for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from workbench.errors import NotAvailable
from workbench.io.tables import number

if TYPE_CHECKING:
    from rich.console import Console

AsJson = Annotated[bool, typer.Option("--json", help="Print only one JSON object on stdout.")]


@dataclass(frozen=True)
class Answer:
    """A verb's result.

    Attributes:
        document: what ``--json`` prints.
        show: prints the same for people.
        code: the exit code.
    """

    document: Mapping[str, Any]
    show: Callable[[Console], None]
    code: int = 0


class NotRun(NotAvailable):
    """Nothing was run; `document` is the verb's own answer."""

    def __init__(self, message: str, document: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.document = document


def write_json(document: Mapping[str, Any], stream: TextIO) -> None:
    """One JSON object and a line break; numbers that are not finite become null, as JSON has none."""
    from workbench.io.files import jsonable

    json.dump(jsonable(document), stream, allow_nan=False, ensure_ascii=False, indent=2)
    stream.write("\n")


def console(stream: TextIO | None = None) -> Console:
    """Where text for people goes: stdout by default. In a pipe lines are as long as they need."""
    from rich.console import Console

    class Pipe(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would exit with 1, which is a verdict here

        def print(self, *objects: Any, **kwargs: Any) -> None:
            super().print(*(printable(x) if isinstance(x, str) else x for x in objects), **kwargs)

    to: TextIO = stream or sys.stdout
    return Pipe(file=to, highlight=False, markup=False, soft_wrap=True, width=None if to.isatty() else 240)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Iterable[str] = ()) -> Any:
    """A plain table for people; columns named in `right` are numbers and stand to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    numbers = set(right)
    for i, name in enumerate(columns):
        made.add_column(name, justify="right" if name in numbers else "left", overflow="fold", no_wrap=i == 0)
    for row in rows:
        made.add_row(*(Text(cell(value)) for value in row))
    return made


def cell(value: object) -> str:
    """A value as a table shows it: three significant figures, and ``–`` where there is nothing."""
    if value is None:
        return "–"
    return number(value) if isinstance(value, float) else printable(str(value))


def printable(text: str) -> str:
    """The text without control characters: what a file from outside says never steers the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
