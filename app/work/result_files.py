"""Files that background jobs leave: one each, named by a hash of everything that its result depends on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import workbench as wb
from app import upload_store

#: Kinds of results that are files (a run of a finding is a directory, which the job names).
SWEEPS, SCORES, TASK_SCORES = KINDS = ("sweeps", "scores", "task_scores")


def result_key(kind: str, model_name: str, model: Any, *arguments: Any) -> str:
    """A hash of the workbench's version, the kind, the model's name, weights and operators, and the arguments."""
    parts = [wb.__version__, kind, model_name, str(model.provenance.get("sha256")), *arguments]
    parts += [[[layer, bound.plain] for layer, bound in model.operators.items()]] if model.operators else []
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def result_path(kind: str, key: str) -> Path:
    """Where the result of that key is."""
    return _folder(kind) / f"{key}.safetensors"


def result_paths(kind: str) -> list[Path]:
    """All results of a kind on this machine, newest first."""
    return sorted(_folder(kind).glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)


def _folder(kind: str) -> Path:
    return upload_store.folder().parent / kind
