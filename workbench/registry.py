"""A folder is a registry: ``data/tasks/surname_recall.py`` *is* the task ``surname-recall``.

Listing reads file names and imports nothing; loading imports one module and takes its object of a fixed name.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

from workbench.errors import UnknownName, WorkbenchError

ROOT = Path(__file__).resolve().parent.parent


class ShadowedPackage(WorkbenchError):
    """A file or package of the user's hides one of ours with the same name."""


class BrokenEntry(WorkbenchError):
    """A file of a registry that cannot be used."""


def names(package: str) -> list[str]:
    """Names registered in a package, from its file names: ``names("data.tasks")``."""
    folder = ROOT.joinpath(*package.split("."))
    return sorted(p.stem.replace("_", "-") for p in folder.glob("*.py") if not p.stem.startswith("_"))


def load(package: str, name: str, attribute: str, kind: str) -> Any:
    """The object called `attribute` in the module of `package` registered as `name`.

    Raises:
        UnknownName: no such file; the nearest names are suggested.
        BrokenEntry: the file cannot be imported, or its object has another name.
        ShadowedPackage: another `data`, `circuits`, … is found before ours on the import path.
    """
    if name not in names(package):
        raise UnknownName(kind, name, names(package))
    check_not_shadowed(package.split(".")[0])
    where = ROOT.joinpath(*package.split("."), f"{name.replace('-', '_')}.py")
    try:
        found = getattr(importlib.import_module(f"{package}.{where.stem}"), attribute)
    except WorkbenchError:
        raise
    except Exception as error:
        raise BrokenEntry(
            f"{where} cannot be loaded: {type(error).__name__}: {error}. It has to end in {attribute} = …"
        ) from error
    if getattr(found, "name", name) != name:
        raise BrokenEntry(f"{where} names its {kind} {found.name!r}; a file is the {kind} it is named after: {name!r}.")
    return found


def environment() -> dict[str, str]:
    """This process's environment, in which a process of ours finds our packages before any others."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def check_not_shadowed(top: str) -> None:
    """Make sure that the top-level package `top` that Python finds is ours, without running what it finds.

    Raises:
        ShadowedPackage: it is not; the message names both.
    """
    spec = importlib.util.find_spec(top)
    place = spec.origin if spec and spec.origin else "no regular package of that name"
    if Path(place).resolve().parent != ROOT / top:
        raise ShadowedPackage(
            f"Python finds {place} when the workbench asks for its own package {top!r}, which is {ROOT / top}. "
            "Rename that file or folder, or run from another folder."
        )
