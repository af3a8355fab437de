"""Words that are not names: identifiers speak the field's language, and a local says what it holds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.registry import ROOT

#: Word → what to write instead.
NOT_NAMES = {
    "about": "info, metadata, label",
    "asked": "requested, settings, prompt",
    "company": "batch, neighbours",
    "drawn": "samples, prompts, figure",
    "found": "what it holds: result, scores, matches, paths",
    "given": "settings, arguments, expected",
    "heard": "messages, events",
    "here": "the place: folder, layer, position",
    "kept": "stored, cached, selected",
    "look": "record, inspection, style",
    "meant": "expected, intended",
    "mine": "own, local, or what it holds",
    "ours": "workbench_…, or what it holds",
    "said": "message, text, words",
    "shown": "visible, displayed, or what it holds",
    "spoken": "message",
    "taking": "capture",
    "theirs": "reference, other, users_…",
    "there": "the place, or present, cached",
    "told": "messages, events",
    "wanted": "required, requested",
    "whom": "recipient",
}
FOLDERS = ("workbench", "circuits", "probes", "data", "app", "tests", "examples", "docs/build")
#: What is not yet read through.
UNFINISHED = (
    "app",
    "circuits",
    "examples",
    "tests/app",
    "tests/benchmarks/bench_explorer.py",
    "tests/browser",
    "tests/circuits",
    "tests/conformance",
    "tests/oracle",
    "tests/workbench/models",
    "tests/workbench/patching",
    "tests/workbench/plotting",
    "workbench/findings",
    "workbench/models",
    "workbench/patching",
    "workbench/plotting",
)
#: What is, inside those.
FINISHED = ("workbench/patching/metric",)


def identifiers(path: Path) -> Iterator[tuple[int, str]]:
    """The names that a file defines, with their lines: its own, assigned names and attributes, parameters, functions,
    classes, and what imports are called."""
    yield 1, path.stem
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.lineno, node.name


def words_of(identifier: str) -> list[str]:
    """The parts of a name: ``_was_found`` is *was* and *found*. A test's name is a sentence and has none."""
    if identifier.startswith("test_"):
        return []
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", identifier).lower().strip("_").split("_")


def not_names(path: Path) -> list[str]:
    """What to change in a file, a line each."""
    return [
        f"{path.relative_to(ROOT)}:{line}: {identifier!r} says little: {word} → {NOT_NAMES[word]}"
        for line, identifier in sorted(set(identifiers(path)))
        for word in words_of(identifier)
        if word in NOT_NAMES
    ]


def is_finished(path: Path) -> bool:
    name = path.relative_to(ROOT).as_posix()
    return name.startswith(FINISHED) or not name.startswith(UNFINISHED)


@pytest.mark.parametrize("folder", FOLDERS)
def test_identifiers_are_names(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, f"{folder} is not there: correct FOLDERS"
    if lines := [line for file in files if is_finished(file) for line in not_names(file)]:
        pytest.fail("\n".join(lines))


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("found = 1", ["found"]),
        ("def f(asked, *, was_kept): pass", ["asked", "was_kept"]),
        ("class TheirModel:\n    said: str = ''", ["said"]),
        ("self.mine, other = 1, 2", ["mine"]),
        ("import numpy as ours", ["ours"]),
        ("result = found(given=1)", []),
        ("def test_what_is_given_is_found(): pass", []),
        ("foundation = 'found'", []),
    ],
)
def test_what_is_taken_for_a_name(code, names, tmp_path):
    path = tmp_path / "file.py"
    path.write_text(code)
    assert [name for _, name in sorted(identifiers(path)) if set(words_of(name)) & set(NOT_NAMES)] == names
