"""`Run`: a finished run directory, read as untrusted input. Nothing in it is used unless its hash is in ``done``."""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile
from dataclasses import dataclass, field
from html import escape
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from workbench import arguments
from workbench.errors import BadInput, UnknownName, UsageError
from workbench.io.files import JSON_BYTES, parse_json, read_file, write_atomic
from workbench.runs.layout import DONE, FORMAT

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

#: The largest table or figure that is read.
FILE_BYTES = 2**30


@dataclass(frozen=True)
class Run:
    """One execution of a finding, read from its run directory. Make it with `Run.read`.

    Attributes:
        path: the directory.
        facts: what ``run.json`` says: finding, config, verdict, versions, times, …
        hashes: SHA-256 of every file, by its path inside the directory.

    Examples:
        >>> from workbench.runs.directory import RunDirectory
        >>> with RunDirectory.create("runs", "my-finding", {"n": 6}) as directory:
        ...     directory.add_report(wb.Report("undecided", "n = 6"))
        >>> run = wb.Run.read(directory.path)
        >>> run.facts["finding"], run.summary
        ('my-finding', 'n = 6')
    """

    path: Path
    facts: dict[str, Any] = field(repr=False)
    hashes: dict[str, str] = field(repr=False)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Run:
        """Open a run directory after checking every file against ``done``.

        Raises:
            BadInput: no ``done`` marker (the run never finished), a file missing or altered (expected and actual hash),
                a path that leaves the directory, or a ``run.json`` that is none.
        """
        folder = arguments.file_path("path", path, "the path of a run directory")
        run = cls.read_header(folder)
        for name in run.hashes:
            run.data(name)
        return run

    @classmethod
    def read_header(cls, path: str | os.PathLike[str]) -> Run:
        """Open a run directory after checking ``run.json`` alone; other files are checked when they are read."""
        folder = arguments.file_path("path", path, "the path of a run directory")
        if not (folder / DONE).is_file():
            raise BadInput(f"{folder} has no file 'done': it is not a run directory, or its run never finished.")
        hashes = dict(
            _entry(line, folder)
            for line in read_file(folder / DONE, JSON_BYTES).decode("utf-8", "replace").splitlines()
        )
        run = cls(folder, {}, hashes)
        facts = parse_json(run.data("run.json"), str(folder / "run.json"))
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise BadInput(f"{folder / 'run.json'} does not name the format {FORMAT!r}.")
        return cls(folder, facts, hashes)

    @property
    def summary(self) -> str:
        """The report in words."""
        return self.data("summary.txt").decode("utf-8", "replace").rstrip("\n")

    @property
    def table_names(self) -> tuple[str, ...]:
        """The tables of the run."""
        return self._names("tables", ".parquet")

    @property
    def figure_names(self) -> tuple[str, ...]:
        """The interactive figures of the run."""
        return self._names("figures", ".json")

    @property
    def picture_names(self) -> tuple[str, ...]:
        """The still figures of the run."""
        return self._names("figures", ".png")

    def table(self, name: str) -> pd.DataFrame:
        """A table, read now. Raises `UnknownName` for a table that the run does not have."""
        import pandas as pd

        self._has("table", name, self.table_names)
        data = self.data(f"tables/{name}.parquet")
        try:
            return pd.read_parquet(io.BytesIO(data))
        except (ValueError, OSError) as error:
            raise BadInput(f"{self.path}: table {name!r} is not a Parquet file ({error}).") from None

    def figure(self, name: str) -> Figure:
        """An interactive figure, read now."""
        import plotly.io

        self._has("figure", name, self.figure_names)
        where = f"{self.path}: figure {name!r}"
        parse_json(text := self.data(f"figures/{name}.json"), where)
        try:
            return plotly.io.from_json(text.decode(), output_type="Figure")
        except (ValueError, TypeError) as error:
            raise BadInput(f"{where} is not a Plotly figure ({error}).") from None

    def picture(self, name: str) -> bytes:
        """A still figure as PNG."""
        self._has("picture", name, self.picture_names)
        return self.data(f"figures/{name}.png")

    def data(self, name: str) -> bytes:
        """The bytes of a file that ``done`` lists, checked again at each reading.

        Raises:
            BadInput: not listed, missing, or altered.
        """
        if arguments.text("name", name) not in self.hashes:
            raise BadInput(f"{self.path}: 'done' does not list {name!r}.")
        path = self.path / name
        if not path.is_file() or path.resolve() != self.path.resolve() / name:  # no link leads out of the directory
            raise BadInput(f"{path} is missing, though 'done' lists it: the run directory was altered.")
        data = read_file(path, FILE_BYTES)
        actual = hashlib.sha256(data).hexdigest()
        if actual != self.hashes[name]:
            raise BadInput(f"{path} was altered: expected SHA-256 {self.hashes[name]}, found {actual}.")
        return data

    def export(self, target: str | os.PathLike[str]) -> Path:
        """Pack the run into a ``.zip`` file, every file checked once more.

        Raises:
            UsageError: another ending, or a file that exists already.
            BadInput: it cannot be written.
        """
        target = arguments.file_path("target", target)
        if target.suffix != ".zip":
            raise arguments.refusal("target", str(target), "a file that ends in .zip")
        if target.exists():
            raise UsageError(f"{target} already exists. Choose a new file (--out), or remove it.")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in self.hashes:
                packed.writestr(f"{self.path.name}/{name}", self.data(name))
            packed.writestr(f"{self.path.name}/{DONE}", read_file(self.path / DONE, JSON_BYTES))
        try:
            return write_atomic(target, buffer.getvalue())
        except OSError as error:
            raise BadInput(f"{target} cannot be written: {error.strerror or error}.") from None

    def _has(self, kind: str, name: str, names: tuple[str, ...]) -> None:
        if arguments.text("name", name) not in names:
            listed = f"a {kind} of the run {self.path.name}: {arguments.listing(names)}"
            expected = listed if names else f"a {kind}, and the run {self.path.name} has none"
            raise UnknownName(kind, name, names, argument="name", expected=expected)

    def _names(self, folder: str, ending: str) -> tuple[str, ...]:
        paths = map(PurePosixPath, self.hashes)
        return tuple(sorted(p.stem for p in paths if str(p.parent) == folder and p.suffix == ending))

    def _repr_html_(self) -> str:
        from workbench.plotting.notebook import image

        pictures = "".join(image(self.picture(name), name) for name in self.picture_names)
        return f"<div><b>{escape(self.path.name)}</b><pre>{escape(self.summary)}</pre>{pictures}</div>"


def _entry(line: str, folder: Path) -> tuple[str, str]:
    match = re.fullmatch(r"([0-9a-f]{64})  ([A-Za-z0-9._/-]+)", line)
    if not match or ".." in match[2].split("/") or match[2].startswith("/"):
        raise BadInput(f"{folder / DONE}: {line[:120]!r} is not a SHA-256 followed by a path inside the directory.")
    return match[2], match[1]
