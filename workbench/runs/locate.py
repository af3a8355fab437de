"""Every finished run of this machine, wherever its directory is: one small file a run in the user's cache folder."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from workbench.errors import BadInput, UnknownName, UsageError
from workbench.io.files import JSON_BYTES, parse_json, read_file, write_atomic
from workbench.io.user_folder import switched_off_everywhere, user_folder
from workbench.runs.layout import DONE
from workbench.runs.run import Run

#: A part of a run's name has at least so many characters: fewer are in any name, and more likely a slip.
SHORTEST = 4
NO_RUNS = "There are no runs yet. Make one with: workbench reproduce circuit-reuse"


def remember(run: Path) -> None:
    """Note where a finished run is; nothing happens with ``WORKBENCH_CACHE=off``, or where that cannot be written."""
    with suppress(OSError, UsageError):
        if switched_off_everywhere():
            return
        folder = user_folder() / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / f"{run.name}.json", json.dumps({"path": str(run.absolute())}).encode())


def finished_runs(root: str | os.PathLike[str] = "runs") -> list[Path]:
    """The run directories under `root` and those that were remembered and are still there, newest first."""
    paths = {path.parent.resolve() for path in Path(root).glob(f"*/{DONE}") if not path.parent.name.startswith(".")}
    for note in (user_folder() / "runs").glob("*.json"):
        with suppress(BadInput, OSError, TypeError, KeyError):
            path = Path(parse_json(read_file(note, JSON_BYTES), str(note))["path"])
            if (path / DONE).is_file():
                paths.add(path.resolve())
    return sorted(paths, key=lambda path: path.name, reverse=True)


def relative_path(path: Path) -> str:
    """The path of a run as answers have it: from the current folder where it lies below, else absolute."""
    folder, path = Path.cwd(), path.resolve()
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def find_run(name: str, root: str | os.PathLike[str] = "runs") -> Path:
    """The run directory of that path, name, or part of a name (of `SHORTEST` characters or more) that only one run
    has; ``latest`` is the newest that is no repetition of another (``reproduce --from``).

    Raises:
        UnknownName: there is none; the nearest are suggested.
        BadInput: several have that part.
        UsageError: there are no runs yet.
    """
    if name and (Path(name) / DONE).is_file():
        return Path(name)
    runs = finished_runs(root)
    if not runs:
        raise UsageError(NO_RUNS)
    if name == "latest":
        return next((path for path in runs if not _repeats(path)), runs[0])
    matches = [path for path in runs if path.name == name]
    if not matches and len(name) >= SHORTEST:
        matches = [path for path in runs if name in path.name]
    if len(matches) > 1:
        raise BadInput(f"{len(matches)} runs match {name!r}: {', '.join(path.name for path in matches[:5])}.")
    if not matches:
        do = f"A part of a name has at least {SHORTEST} characters." if len(name) < SHORTEST else ""
        raise UnknownName("run", name, [path.name for path in runs], f"{do} See workbench runs list.".strip())
    return matches[0]


def _repeats(path: Path) -> bool:
    with suppress(BadInput):
        return Run.read_header(path).facts.get("repeats") is not None
    return False
