"""What is committed of a run, under ``docs/results/MODEL/FINDING``: a thin copy of its directory, and what it is of."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import workbench
from workbench import registry
from workbench.io.files import jsonable
from workbench.models import catalog
from workbench.registry import FINDINGS, TASKS
from workbench.runs.run import Run

#: The models whose results the documentation shows.
MODELS = ("smollm2-135m-instruct-q4", "gemma3-270m-q4")
#: Bytes that the files of a run may take here: under a megabyte, with what is said of them.
LIMIT = 990_000
#: The file that says what a copy is of, and what was left out.
KEPT = "kept.json"
FORMAT = "workbench.kept/1"


def identity(name: str, model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a result depends on: a committed one with the same identity need not be made again."""
    settings = FINDINGS[name].settings(given)
    return {
        "finding": name,
        "source": _hash(sources(name, settings)),
        "config": jsonable({"model": model, **settings}),
        "model": catalog.entries()[model].sha256,
        "engine": workbench.__version__,
    }


def sources(name: str, settings: Mapping[str, Any]) -> list[Path]:
    """The finding's file, whatever it imports of ours outside the engine, the tasks that it or its settings name, and
    the files that lie beside all these under the same name."""
    tasks = set(TASKS.names())
    words = {word for value in settings.values() for word in (value if isinstance(value, list | tuple) else [value])}
    pending = [f"circuits.findings.{name}", *(f"data.tasks.{task}" for task in tasks & words)]
    found: set[Path] = set()
    while pending:
        path = registry.ROOT.joinpath(*pending.pop().replace("-", "_").split(".")).with_suffix(".py")
        if path.is_file() and path not in found:
            found |= set(path.parent.glob(f"{path.stem}.*"))
            tree = ast.parse(path.read_text(encoding="utf-8"))
            pending += [module for module in _imports(tree) if module.split(".")[0] in ("circuits", "probes", "data")]
            pending += [f"data.tasks.{task}" for task in tasks & _texts(tree)]
    return sorted(found)


def same(folder: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether `folder` holds a result of that identity."""
    if not (folder / KEPT).is_file():
        return False
    return json.loads((folder / KEPT).read_text(encoding="utf-8")).get("of") == wanted


def keep(run: Run, folder: Path, of: Mapping[str, Any]) -> list[str]:
    """Copy ``run.json``, the report, tables as CSV and pictures, every file checked, into the place of `folder`.

    Tables come before pictures, and files of shorter names first (overviews have them); what would exceed `LIMIT` is
    left out, named in `KEPT` and returned.
    """
    tables = [f"tables/{name}.csv" for name in sorted(run.table_names, key=_short)]
    pictures = [f"figures/{name}.png" for name in sorted(run.picture_names, key=_short)]
    copied, left, size = {}, [], 0
    for file in ["run.json", "summary.txt", *tables, *pictures]:
        data = run.data(file)
        if size + len(data) > LIMIT:
            left.append(file)
        else:
            copied[file], size = data, size + len(data)
    about = {"format": FORMAT, "run": run.path.name, "of": of, "left_out": left}
    copied[KEPT] = (json.dumps(about, indent=2) + "\n").encode()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        new = Path(made) / folder.name
        for file, data in copied.items():
            (new / file).parent.mkdir(parents=True, exist_ok=True)
            (new / file).write_bytes(data)
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)
    return left


def _short(name: str) -> tuple[int, str]:
    return len(name), name


def _imports(tree: ast.AST) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _texts(tree: ast.AST) -> set[str]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def _hash(files: Iterable[Path]) -> str:
    state = hashlib.sha256()
    for file in files:
        state.update(f"{file.relative_to(registry.ROOT).as_posix()}\n".encode() + file.read_bytes() + b"\n")
    return state.hexdigest()
