"""A folder is a registry: ``data/tasks/surname_recall.py`` *is* the task ``surname-recall``.

::

    TASKS.names()           # the file names, nothing is imported
    TASKS["surname-recall"] # imports one file and takes its object ``task``

The top-level packages have plain names, and a user may have a ``data.py`` or ``circuits.py`` of his own beside his
script. His stays his: where Python finds another module under such a name, our package is loaded from its own place as
``attention_workbench_data``. Inside themselves those packages therefore import each other's files relatively.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from workbench.errors import UnknownName, WorkbenchError

if TYPE_CHECKING:
    from workbench.attention.operator import Operator
    from workbench.findings import Finding
    from workbench.inputs.corruption import Corruption
    from workbench.inputs.image_sets import ImageSet
    from workbench.inputs.pairs import Task
    from workbench.patching.metric import Metric

Entry = TypeVar("Entry")

ROOT = Path(__file__).resolve().parent.parent
#: What the name of one of our packages begins with where its plain name is a user's.
PRIVATE = "attention_workbench_"


class BrokenEntry(WorkbenchError):
    """A file of a registry that cannot be used."""


class Registry(Generic[Entry]):
    """The files of one package, each ending in one object called `kind`; ``registry["name"]`` is that object.

    Args:
        package: dotted, such as ``"data.tasks"``.
        kind: what an entry is called in messages, and the variable in which its file ends.
        separator: what stands in names for the underscore of file names.
    """

    def __init__(self, package: str, kind: str, separator: str = "-") -> None:
        self.package, self.kind, self._separator = package, kind, separator
        self._folder = ROOT.joinpath(*package.split("."))
        self._listed: tuple[int, list[str]] = (0, [])  # as of that time of the folder's last change

    def names(self) -> list[str]:
        """All names, sorted, from the file names; nothing is imported. A leading underscore hides a file."""
        changed = self._folder.stat().st_mtime_ns if self._folder.is_dir() else 0
        if changed != self._listed[0]:
            stems = (path.stem for path in self._folder.glob("*.py"))
            names = sorted(stem.replace("_", self._separator) for stem in stems if not stem.startswith("_"))
            self._listed = (changed, names)
        return list(self._listed[1])

    def path(self, name: str) -> Path:
        """The file of that name.

        Raises:
            UnknownName: no such file; the nearest names are suggested.
        """
        if name not in self.names():
            raise UnknownName(self.kind, name, self.names())
        return self._folder / f"{name.replace(self._separator, '_')}.py"

    def is_imported(self, name: str) -> bool:
        """Whether the file was imported before.

        Raises:
            UnknownName: no such file; the nearest names are suggested.
        """
        return f"{importable(self.package)}.{self.path(name).stem}" in sys.modules

    def summary(self, name: str) -> str:
        """The first line of the file's docstring, without importing it.

        Raises:
            UnknownName: no such file; the nearest names are suggested.
        """
        text = ast.get_docstring(ast.parse(self.path(name).read_text(encoding="utf-8"))) or ""
        return text.partition("\n")[0]

    def __getitem__(self, name: str) -> Entry:
        """The object of the file `name`.

        Raises:
            UnknownName: no such file; the nearest names are suggested.
            BrokenEntry: the file cannot be imported, or its object has another name.
        """
        path = self.path(name)
        try:
            entry = getattr(importlib.import_module(f"{importable(self.package)}.{path.stem}"), self.kind)
        except WorkbenchError:
            raise
        except Exception as error:
            raise BrokenEntry(
                f"{path} cannot be loaded: {type(error).__name__}: {error}. It must end in {self.kind} = …"
            ) from error
        if getattr(entry, "name", name) != name:
            raise BrokenEntry(
                f"{path} names its {self.kind} {entry.name!r}, and its file name requires {name!r}. Make them the same."
            )
        return entry


TASKS: Registry[Task] = Registry("data.tasks", "task")
FINDINGS: Registry[Finding] = Registry("circuits.findings", "finding")
CORRUPTIONS: Registry[Corruption] = Registry("workbench.inputs.corruptions", "corruption")
METRICS: Registry[Metric] = Registry("workbench.patching.metrics", "metric", separator="_")
IMAGE_SETS: Registry[ImageSet] = Registry("data.images", "images")
RECIPES: Registry[Any] = Registry("data.training", "recipe")
OPERATORS: Registry[Operator] = Registry("workbench.attention.operators", "operator")
MEMORY_RULES: Registry[Any] = Registry("probes.memory.rules", "rule")


def written_arguments(tree: ast.Module, kind: str) -> tuple[list[ast.expr], dict[str, ast.expr]] | None:
    """The arguments of ``kind = Kind(...)`` in a file that is not imported, by place and by name; None where its object
    is made in another way."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [kind]:
            call = node.value
            if isinstance(call, ast.Call) and ast.unparse(call.func) == kind.capitalize():
                keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None}
                unpacked = any(isinstance(argument, ast.Starred) for argument in call.args)
                return None if unpacked or len(keywords) < len(call.keywords) else (call.args, keywords)
    return None


def importable(package: str) -> str:
    """The name under which one of our packages can be imported: its own, or a private one beside a user's module.

    A user's module of that name is neither imported nor run.
    """
    top, dot, rest = package.partition(".")
    if PRIVATE + top in sys.modules:
        return PRIVATE + top + dot + rest
    if _is_own_package(top):
        return package
    spec = importlib.util.spec_from_file_location(
        PRIVATE + top, ROOT / top / "__init__.py", submodule_search_locations=[str(ROOT / top)]
    )
    assert spec is not None and spec.loader is not None
    module = sys.modules[PRIVATE + top] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return PRIVATE + top + dot + rest


def imported(module: str) -> ModuleType:
    """A module of one of our packages, whatever else is called like the package."""
    return importlib.import_module(importable(module))


def environment() -> dict[str, str]:
    """This process's environment, in which a process of ours finds our packages before any others."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Safe path: `python -m` does not look into the folder that it is started from.
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}


def _is_own_package(top: str) -> bool:
    """Whether the plain name of a top-level package is ours; finds the module without running it."""
    if top in sys.modules:
        origin = getattr(sys.modules[top], "__file__", None)
    else:
        spec = importlib.util.find_spec(top)
        origin = spec.origin if spec else None
    return origin is not None and Path(origin).resolve().parent == ROOT / top
