"""The pairs of a sweep as the page asks for them: plain data."""

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
    """A task's prompts, or the pairs of a kept file.

    Raises:
        BadInput, UnknownName: there are none such.
    """
    if "task" in source:
        return wb.task(str(source["task"]), n=int(source["n"]), seed=int(source["seed"]))
    if "pairs" in source:
        return read_pairs(upload_store.load(str(source["pairs"])), "pairs.jsonl")
    raise BadInput("A sweep needs a task or pairs.")


def read_pairs(data: bytes, name: str) -> Any:
    """Pairs from the bytes of a file of that name, as `workbench.read_pairs` reads them.

    Raises:
        BadInput, UsageError: as that does.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (re.sub(r"[^\w.-]", "_", name)[-80:] or "pairs")
        path.write_bytes(data)
        return wb.read_pairs(path)
