"""A hash of the workbench's own source files: for keys of what they computed, besides the version's number."""

from __future__ import annotations

import hashlib
import time
from functools import cache
from pathlib import Path

from workbench.registry import ROOT

#: Files that were changed later are not those that this process runs.
_IMPORTED = time.time()


@cache
def own_code_hash(*packages: str) -> str:
    """A hash of every source file of some of our top-level packages; empty where one was changed after this process had
    imported it, so that what runs is not what the files say.

    Args:
        packages: such as ``"workbench"``.
    """
    state = hashlib.blake2b(digest_size=16)
    for path in sorted(path for package in packages for path in _files(ROOT / package)):
        if path.stat().st_mtime > _IMPORTED:
            return ""
        data = path.read_bytes()
        state.update(f"{path.relative_to(ROOT).as_posix()} {len(data)} ".encode() + data)
    return state.hexdigest()


def _files(folder: Path) -> list[Path]:
    return [path for kind in ("*.py", "*.toml") for path in folder.rglob(kind)]
