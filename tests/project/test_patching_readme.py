"""The README of the engine names every file of its folder, and only files that exist."""

from __future__ import annotations

import re

from workbench.registry import ROOT

FOLDER = ROOT / "workbench" / "patching"
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_file_that_it_names_exists() -> None:
    for name in re.findall(r"`([\w./]+\.py)`", TEXT):
        assert (FOLDER / name).is_file() or (ROOT / name).is_file(), name
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (FOLDER / link).is_file(), link


def test_every_file_of_the_folder_is_in_the_reading_order() -> None:
    listed = set(re.findall(r"`(\w+\.py)`", TEXT[TEXT.index("## In which order to read") :]))
    assert {path.name for path in FOLDER.glob("*.py")} - {"__init__.py"} == listed
