"""A sweep as the page asks for it: prompts and arguments as plain data, with a key of their own."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import workbench as wb
from app import inputs
from workbench.errors import BadInput


def prompts(asked: Mapping[str, Any]) -> Any:
    """A task's prompts, or the pairs of a kept file.

    Raises:
        BadInput, UnknownName: there are none such.
    """
    if "task" in asked:
        return wb.task(str(asked["task"]), n=int(asked["n"]), seed=int(asked["seed"]))
    if "pairs" in asked:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pairs.jsonl"
            path.write_bytes(inputs.kept(str(asked["pairs"])))
            return wb.read_pairs(path)
    raise BadInput("A sweep needs a task or pairs.")


def key(model: str, asked: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """A hash of everything that was asked for."""
    return hashlib.sha256(json.dumps([model, asked, arguments], sort_keys=True).encode()).hexdigest()
