"""The map of the folders in CONTRIBUTING is the real one."""

from __future__ import annotations

import re
from pathlib import Path

from workbench.registry import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAP = re.findall(r"^([\w/]+/) {2,}\S", TEXT, re.M)
#: Packages every folder of which is on the map.
MAPPED = ("workbench", "circuits", "app", "tests")


def folders(package: str) -> list[str]:
    children = (path for path in (ROOT / package).iterdir() if path.is_dir())
    return [f"{package}/{path.name}/" for path in children if any(_files(path))]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def test_every_folder_of_the_map_exists() -> None:
    assert len(MAP) == len(set(MAP)) > 30
    assert [folder for folder in MAP if not (ROOT / folder).is_dir()] == []


def test_every_folder_is_on_the_map() -> None:
    assert [folder for package in MAPPED for folder in folders(package) if folder not in MAP] == []


def test_every_file_and_folder_that_the_text_names_exists() -> None:
    for name in re.findall(r"`((?:workbench|circuits|data|app|tests|docs|examples)/[\w./-]+)`", TEXT):
        assert (ROOT / name).exists() or "my_" in name or "NAME" in name, name
