"""The example task of CONTRIBUTING passes where a newcomer puts it, and a broken task beside it fails alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.registry import ROOT

PACKAGES = ("workbench", "data", "circuits", "app", "tests/conformance")
BROKEN = "raise RuntimeError('half written')\n"


def example_task() -> str:
    """The Python block of CONTRIBUTING that ends in a task."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if "task = Task(" in code]
    return code


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Test → outcome of the conformance walk over a copy of the project that holds the example and a broken task."""
    root: Path = tmp_path_factory.mktemp("project")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "tests/__init__.py", "tests/conftest.py", "tests/array_checks.py"):
        shutil.copy(ROOT / file, root / file)
    (root / "data" / "tasks" / "my_task.py").write_text(example_task(), encoding="utf-8")
    (root / "data" / "tasks" / "broken_task.py").write_text(BROKEN, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", "tests/conformance/test_tasks.py"]
    names = "my-task or broken-task or surname-recall"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(
        [*command, "-k", names], cwd=root, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    outcomes = re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\w+\[[\w-]+\])", done.stdout, flags=re.MULTILINE)
    assert outcomes, done.stdout + done.stderr
    return {test: outcome if outcome == "PASSED" else done.stdout for outcome, test in outcomes}


def test_the_example_task_passes_every_test(walk: dict[str, str]) -> None:
    results = {test: outcome for test, outcome in walk.items() if test.endswith("[my-task]")}
    assert len(results) == 2
    for test, outcome in results.items():
        assert outcome == "PASSED", f"{test}: the example task of CONTRIBUTING.md does not pass.\n{outcome}"


def test_a_broken_task_fails_its_own_tests_alone(walk: dict[str, str]) -> None:
    for test, outcome in walk.items():
        assert (outcome == "PASSED") == ("broken-task" not in test), f"{test}\n{outcome}"
    assert "half written" in walk["test_a_task_passes_its_checks[broken-task]"]
