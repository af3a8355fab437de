"""``docs/families.json``: what was measured of each family, and on what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.families.cell import Cell
from tests.families.configurations import Configuration

PATH = Path(__file__).parents[2] / "docs" / "families.json"


def versions() -> dict[str, str]:
    """The packages whose versions decide the numbers."""
    return {name: version(name) for name in ("attention-workbench", "torch", "transformers")}


def read(path: Path = PATH) -> dict[str, Any]:
    """The file; empty where there is none."""
    if not path.is_file():
        return {"versions": versions(), "seconds": 0.0, "families": {}}
    return json.loads(path.read_text(encoding="utf-8"))


def write(results: Mapping[str, Any], path: Path = PATH) -> None:
    """One line a family."""
    head = {key: value for key, value in results.items() if key != "families"}
    rows = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(row, ensure_ascii=False)}" for name, row in results["families"].items()
    )
    text = json.dumps({**head, "families": {}}, ensure_ascii=False).removesuffix("}}")
    path.write_text(f"{text}\n{rows}\n}}}}\n", encoding="utf-8")


def family(configuration: Configuration, cells: Mapping[str, Cell], untried: str = "") -> dict[str, Any]:
    """What the file holds of one family; figures to one digit, since the others depend on the machine."""
    facts = {key: value for key, value in asdict(configuration).items() if value}
    if untried:
        return {**facts, "untried": untried}
    return {**facts, "cells": {name: _plain(cell) for name, cell in cells.items()}}


def _plain(cell: Cell) -> dict[str, Any]:
    row = {key: value for key, value in asdict(cell).items() if value not in (None, "")}
    return {key: float(f"{value:.0e}") if isinstance(value, float) else value for key, value in row.items()}
