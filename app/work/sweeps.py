"""A sweep as the page asks for it: prompts and arguments as plain data, with a key and a file of its own."""

from __future__ import annotations

import hashlib
import json
import re
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
        return read_pairs(inputs.kept(str(asked["pairs"])), "pairs.jsonl")
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


def key(model: str, sha256: str, asked: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """A hash of everything that was asked for, of the weights and of the version that computes."""
    what = [wb.__version__, model, sha256, asked, arguments]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def file(key: str) -> Path:
    """Where the result of that key is."""
    return _folder() / f"{key}.safetensors"


def kept() -> list[Path]:
    """The files of all sweeps of this machine, newest first."""
    return sorted(_folder().glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)


def _folder() -> Path:
    return inputs.folder().parent / "sweeps"
