"""What the README tells a reader to type is what the project does."""

from __future__ import annotations

import re

from workbench.models import catalog
from workbench.registry import FINDINGS, ROOT, TASKS

README = (ROOT / "README.md").read_text()


def test_the_script_in_the_readme_is_the_example() -> None:
    """Which ``test_examples.py`` runs."""
    script = (ROOT / "examples/own_prompts.py").read_text()
    assert f"```python\n{script}```" in README


def test_every_name_in_the_readme_exists() -> None:
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text()
    for task in re.findall(r"--task ([\w-]+)", README):
        assert task in TASKS.names()
    for finding in re.findall(r"workbench reproduce (\w[\w-]*)", README):
        assert finding in FINDINGS.names() or finding == "NAME"
    for model in re.findall(r"`([\w.-]+-q4)`", README):
        assert model in catalog.entries()


def test_every_link_of_the_readme_to_a_file_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target
