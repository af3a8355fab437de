"""What the README tells a reader to type is what the project does."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from tests.docs_pages import script
from workbench.models import catalog
from workbench.registry import FINDINGS, OPERATORS, ROOT, TASKS

README = (ROOT / "README.md").read_text()


def test_the_script_in_the_readme_is_the_example() -> None:
    """Which ``test_examples.py`` runs."""
    script = (ROOT / "examples/own_prompts.py").read_text()
    assert f"```python\n{script}```" in README


def test_the_other_scripts_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the tiny model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "readme.py").write_text(script(README), encoding="utf-8")
    runpy.run_path("readme.py")
    assert capsys.readouterr().out.count("\n") == 2


def test_every_name_in_the_readme_exists() -> None:
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text()
    for task in re.findall(r"--task ([\w-]+)", README):
        assert task in TASKS.names()
    for finding in re.findall(r"workbench reproduce (\w[\w-]*)", README):
        assert finding in FINDINGS.names() or finding == "NAME"
    for operator in re.findall(r'": "([a-z-]+)["(]', README):
        assert operator in OPERATORS.names()
    for model in re.findall(r"`([\w.-]+-q4)`", README):
        assert model in catalog.entries()


def test_every_link_of_the_readme_to_a_file_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target
