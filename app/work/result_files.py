"""What jobs leave: a file each, whose name is a hash of everything that was asked for, so that it is found again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import workbench as wb
from app import upload_store


def result_key(kind: str, name: str, model: Any, *asked: Any) -> str:
    """A hash of what was asked for of the model of that name, of its weights and of the version that computes."""
    parts = [wb.__version__, kind, name, str(model.provenance.get("sha256")), *asked]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def result_path(kind: str, key: str) -> Path:
    """Where the result of that key is."""
    return folder(kind) / f"{key}.safetensors"


def result_paths(kind: str) -> list[Path]:
    """All of a kind on this machine, newest first."""
    return sorted(folder(kind).glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)


def folder(kind: str) -> Path:
    return upload_store.folder().parent / kind
