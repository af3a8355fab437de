"""A run directory is complete or absent: written beside its place, flushed, then renamed.

::

    20260102T030405Z-circuit-reuse-1a2b3c4d/
        run.json            finding, config, verdict, reason, versions, git commit, time, peak memory, its facts
        summary.txt         the report in words
        tables/NAME.parquet, NAME.csv
        figures/NAME.json   Plotly; NAME.png, drawn with matplotlib
        done                SHA-256 of every file above, in the format of sha256sum: ``sha256sum -c done`` checks it
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
import weakref
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from workbench.errors import BadInput, UsageError
from workbench.io.files import jsonable, sha256_of, sync
from workbench.runs.layout import DONE, FORMAT
from workbench.runs.locate import remember
from workbench.runs.provenance import peak_memory, provenance

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure

    from workbench.findings import Report

LOCK = ".lock"


class RunDirectory:
    """A run directory being written. Leave the ``with`` block normally to publish it, by any exception to remove it.

    While the run goes on, everything added so far can be opened under `partial`; afterwards it is under `path`.
    `summary` is the report in words.
    """

    def __init__(self, root: Path, name: str, partial: Path, facts: dict[str, Any]) -> None:
        self.root, self.name, self.partial = root, name, partial
        self.path: Path | None = None
        self._facts, self.summary, self._started = facts, "", time.monotonic()
        # Held as long as this process lives: a folder whose lock is free was left by a dead one.
        self._lock = os.open(partial / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._remove = weakref.finalize(self, _remove, partial, os.getpid(), self._lock)

    @classmethod
    def create(cls, root: str | os.PathLike[str], finding: str, config: Mapping[str, Any]) -> RunDirectory:
        """Start a run of `finding` under `root`; `config` is everything needed to repeat it, JSON-able.

        The name is ``<UTC time>-<finding>-<first 8 digits of the hash of finding and config>``.

        Raises:
            UsageError: a name or value that cannot be saved.
            BadInput: `root` cannot be made or written.
        """
        _check_name(finding, "finding")
        config = jsonable(config)
        digest = hashlib.sha256(json.dumps([finding, config], sort_keys=True).encode()).hexdigest()[:8]
        started = datetime.now(UTC)
        name = f"{started:%Y%m%dT%H%M%SZ}-{finding}-{digest}"
        facts = {
            "format": FORMAT,
            "finding": finding,
            "config": config,
            "started": started.isoformat(timespec="seconds"),
        }
        root = Path(root)
        try:
            root.mkdir(parents=True, exist_ok=True)
            for left in _left_behind(root):
                shutil.rmtree(left, ignore_errors=True)
            partial = _first_free(lambda suffix: root / f".{name}{suffix}.partial-{os.getpid()}", Path.mkdir)
        except OSError as error:
            raise BadInput(
                f"No run directory can be made in {root}: {error.strerror or error}. Choose another with --out."
            ) from None
        return cls(root, name, partial, {**facts, **provenance()})

    def record(self, **facts: Any) -> None:
        """Record facts in ``run.json``: ``model=…, data=…, seed=…, device=…, dtype=…, attention=…``."""
        self._facts |= jsonable(facts)

    def add_table(self, name: str, frame: pd.DataFrame) -> Path:
        """Write a table as Parquet and CSV (replacing one of the same name) and return the path of the CSV."""
        _check_name(name, "table")
        folder = self._folder("tables")
        frame.to_parquet(folder / f"{name}.parquet", index=False)
        frame.to_csv(folder / f"{name}.csv", index=False)
        return folder / f"{name}.csv"

    def add_figure(self, name: str, figure: Figure | None = None, picture: Picture | None = None) -> Path:
        """Write a Plotly figure as JSON, a matplotlib one as PNG; returns the path of the PNG, or else of the JSON."""
        _check_name(name, "figure")
        if figure is None and picture is None:
            raise UsageError(f"Figure {name!r}: expected a Plotly figure, a matplotlib figure, or both.")
        folder = self._folder("figures")
        written = folder / f"{name}.json"
        if figure is not None:
            written.write_text(str(figure.to_json()), encoding="utf-8")
        if picture is not None:
            from workbench.plotting import matplotlib_charts

            written = folder / f"{name}.png"
            written.write_bytes(matplotlib_charts.image(picture))
        return written

    def add_report(self, report: Report) -> None:
        """Save a report's verdict with its reason, summary, tables, figures and facts."""
        self.record(verdict=report.verdict, reason=report.reason, **report.facts)
        self.summary = report.summary
        for name, frame in report.tables.items():
            self.add_table(name, frame)
        for name in {**report.figures, **report.pictures}:
            self.add_figure(name, report.figures.get(name), report.pictures.get(name))

    def finish(self) -> Path:
        """Write ``run.json``, ``summary.txt`` and ``done``, flush all to disk, and rename to the final place.

        Another run of the same name is left alone: this one gets ``-2``, ``-3``, …
        """
        ended = {
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._started, 3),
        }
        facts = {**self._facts, **ended, "peak_memory_bytes": peak_memory()}
        (self.partial / "summary.txt").write_text(self.summary.rstrip() + "\n", encoding="utf-8")
        (self.partial / "run.json").write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (self.partial / LOCK).unlink(missing_ok=True)
        files = sorted(p for p in self.partial.rglob("*") if p.is_file())
        lines = [f"{sha256_of(p)}  {p.relative_to(self.partial).as_posix()}\n" for p in files]
        done = self.partial / DONE
        done.write_text("".join(lines), encoding="utf-8")
        for path in [*files, done, *{p.parent for p in files}, self.partial]:
            sync(path)
        self.path = _first_free(lambda suffix: self.root / f"{self.name}{suffix}", self._rename)
        self._remove.detach()
        os.close(self._lock)
        sync(self.root)
        remember(self.path)
        return self.path

    def discard(self) -> None:
        """Remove what was written so far. Nothing happens once the run is finished."""
        self._remove()

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self.path is None:
                self.finish()
        finally:
            self.discard()

    def _rename(self, target: Path) -> None:
        # POSIX would put a folder in the place of an empty one: that one is not ours to replace.
        if target.exists():
            raise FileExistsError(target)
        os.rename(self.partial, target)

    def _folder(self, name: str) -> Path:
        folder = self.partial / name
        folder.mkdir(exist_ok=True)
        return folder


class RunProgress:
    """The `workbench.findings.Progress` of a run: early tables and figures go into the directory, and are announced.

    `tell` is called with ``(done, total, what)``, `show` with ``(name, path)`` of each early figure or table.
    """

    def __init__(
        self,
        run: RunDirectory,
        tell: Callable[[int, int, str], None] | None = None,
        show: Callable[[str, Path], None] | None = None,
    ) -> None:
        self.run, self.tell, self.show = run, tell, show

    def __call__(self, done: int, total: int, what: str) -> None:
        if self.tell is not None:
            self.tell(done, total, what)

    def publish(
        self,
        name: str,
        *,
        table: pd.DataFrame | None = None,
        figure: Figure | None = None,
        picture: Picture | None = None,
    ) -> None:
        paths = [] if table is None else [self.run.add_table(name, table)]
        if figure is not None or picture is not None:
            paths.append(self.run.add_figure(name, figure, picture))
        for path in paths:
            if self.show is not None:
                self.show(name, path)


def _check_name(name: str, what: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,79}", name):
        raise UsageError(
            f"{what} name {name!r}: expected lower-case letters, digits, '-' and '_', at most 80, because it becomes "
            "a file name."
        )


def _first_free(place: Callable[[str], Path], claim: Callable[[Path], Any]) -> Path:
    """The first of ``place(""), place("-2"), …`` that `claim` does not find taken."""
    for number in range(1, 10_000):
        path = place("" if number == 1 else f"-{number}")
        try:
            claim(path)
        except OSError as error:
            # Renaming onto a folder says "not empty" (Linux) or "exists".
            if not isinstance(error, FileExistsError) and not path.exists():
                raise
            continue
        return path
    raise BadInput(f"{place('')} and 9,999 names after it are taken.")


def _left_behind(root: Path) -> list[Path]:
    """Unfinished run directories whose process is dead."""
    return [path for path in root.glob(".*.partial-*") if path.is_dir() and _dead(path)]


def _dead(partial: Path) -> bool:
    try:
        with (partial / LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except FileNotFoundError:  # just made, or just being finished
        return not _alive(partial.name.rpartition("-")[2])
    except OSError:
        return False


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


def _remove(partial: Path, owner: int, lock: int) -> None:
    # A forked child inherits the finalizer, not the run.
    if os.getpid() == owner:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(lock)
