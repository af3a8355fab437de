"""What a link cannot hold: long texts, pair files and circuits, kept on this machine by the hash of their content.

A link names such an input by its hash; nothing that a page is given is ever used as a path.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from workbench.cache.folder import user_folder
from workbench.errors import BadInput
from workbench.io.files import read_file, write_atomic

#: Longer texts than this are named by their hash.
LONGEST_IN_LINK = 2_000
#: And longer ones than this are not taken.
LONGEST_TEXT = 20_000
#: Bytes of one input, and of all that are kept.
LARGEST = 8 * 1024 * 1024
_HASH = re.compile(r"[0-9a-f]{64}")


def folder() -> Path:
    """Where inputs are kept."""
    return user_folder() / "explorer" / "inputs"


def keep(data: bytes) -> str:
    """Keep an input and return its hash.

    Raises:
        BadInput: it is too large.
    """
    if len(data) > LARGEST:
        raise BadInput(f"This input has {len(data) / 1e6:.1f} MB, and at most {LARGEST / 1e6:.0f} MB are taken.")
    name = hashlib.sha256(data).hexdigest()
    path = folder() / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
    return name


def kept(name: str) -> bytes:
    """The input of that hash, checked.

    Raises:
        BadInput: no hash, nothing of that hash on this machine, or a file that was changed.
    """
    if not _HASH.fullmatch(name):
        raise BadInput("The link names an input by something that is no hash of one: copy the whole link.")
    path = folder() / name
    if not path.is_file():
        raise BadInput("The link names an input that is not on this machine: open it where it was made.")
    data = read_file(path, LARGEST)
    if hashlib.sha256(data).hexdigest() != name:
        raise BadInput("The input that the link names was changed on the disk: it is not shown.")
    return data
