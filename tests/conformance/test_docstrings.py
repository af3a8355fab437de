"""Every public function and class shows how it is called, on the tiny model, and what is shown is what happens."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from tests.conformance.test_arguments import public_names

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
CHECKS = [f"testing.{name}" for name in wb.testing.__all__]


def example_of(name: str) -> doctest.DocTest:
    subject: Any = wb
    for part in name.split("."):
        subject = getattr(subject, part)
    return doctest.DocTestParser().get_doctest(inspect.getdoc(subject) or "", {"wb": wb}, f"wb.{name}", None, None)


@pytest.mark.parametrize("name", [*public_names(), *CHECKS])
def test_a_public_name_has_an_example_that_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = example_of(name)
    assert example.examples, f"wb.{name} has no example: write three lines under 'Examples:' in its docstring."
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    runner.run(example, out=output.append)
    assert not runner.failures, "".join(output)
