"""Prompts as a page and a job name them, in plain data: a task's, or the pairs of an uploaded file."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import workbench as wb
from app import upload_store
from workbench.errors import BadInput


def load_prompts(source: Mapping[str, Any]) -> Any:
    """The prompts of ``{"task": name, "n": …, "seed": …}``, or of ``{"pairs": hash of an upload}``.

    Raises:
        BadInput, UnknownName: there are none such.
    """
    if "task" in source:
        return wb.task(str(source["task"]), n=int(source["n"]), seed=int(source["seed"]))
    if "pairs" in source:
        return read_pairs(upload_store.load(str(source["pairs"])), "pairs.jsonl")
    raise BadInput(f"prompts={dict(source)!r}: expected a task or pairs. Select one.")


def read_pairs(data: bytes, name: str) -> Any:
    """Pairs from the bytes of a file of that name, as `workbench.read_pairs` reads them.

    Raises:
        BadInput, UsageError: as that does.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (re.sub(r"[^\w.-]", "_", name)[-80:] or "pairs")
        path.write_bytes(data)
        return wb.read_pairs(path)
