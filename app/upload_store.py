"""What a URL cannot hold (long texts, pair files, circuits), stored on this machine by the hash of its content.

A URL names an upload by its hash; nothing that a page receives is ever used as a path.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path, PureWindowsPath

from workbench.errors import BadInput
from workbench.io.files import read_file, write_atomic
from workbench.io.user_folder import user_folder

#: Characters of a text that goes into the URL itself; a longer one goes in by its hash.
MAX_IN_URL = 2_000
#: Characters of a text at most.
MAX_CHARACTERS = 20_000
#: Bytes of one upload at most.
MAX_BYTES = 8 * 1024 * 1024
#: Characters of an uploaded file's name that are shown.
MAX_NAME = 60
_HASH = re.compile(r"[0-9a-f]{64}")
_COPY = "Copy the whole URL."


def folder() -> Path:
    """Where uploads are stored."""
    return user_folder() / "explorer" / "inputs"


def file_name(name: str) -> str:
    """The name of an uploaded file as it is shown and stored: text without folders and control characters, a long one
    cut in the middle, so that its ending stays. It is never used as a path."""
    text = "".join(c for c in PureWindowsPath(name).name if c.isprintable()).strip() or "file"
    if len(text) <= MAX_NAME:
        return text
    return f"{text[: MAX_NAME - 20]}…{text[-19:]}"


def reason(error: object, file: str) -> str:
    """Why a file was refused, in a line that begins with its name."""
    return str(error) if str(error).startswith(file) else f"{file}: {error}"


def save(data: bytes) -> str:
    """Store an upload and return its hash.

    Raises:
        BadInput: it is too large.
    """
    if len(data) > MAX_BYTES:
        raise BadInput(f"Upload: {len(data) / 1e6:.1f} MB, and the limit is {MAX_BYTES / 1e6:.0f} MB. Upload less.")
    name = hashlib.sha256(data).hexdigest()
    path = folder() / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
    return name


def save_file(data: bytes, name: str) -> str:
    """Store an uploaded file with its own name, so that a URL cannot give the name to another; their hash.

    Raises:
        BadInput: it is too large.
    """
    return save(json.dumps({"file": file_name(name)}).encode() + b"\n" + data)


def load_file(name: str, what: str = "a file") -> tuple[str, bytes]:
    """The own name and the content of the file of that hash; `what` as for `load`.

    Raises:
        BadInput: as `load`, or what has that hash is no file.
    """
    header, _, data = load(name, what).partition(b"\n")
    try:
        return file_name(json.loads(header)["file"]), data
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadInput(f"The URL refers to {what}, but what is stored under that hash is no file. {_COPY}") from None


def load(name: str, what: str = "an upload") -> bytes:
    """What is stored under that hash, checked.

    Args:
        what: it is, for messages: ``"a long prompt"``.

    Raises:
        BadInput: no hash, nothing of that hash on this machine, or a file that was changed.
    """
    if not _HASH.fullmatch(name):
        raise BadInput(f"The URL refers to {what} by {name!r:.40}, which is not a SHA-256 hash. {_COPY}")
    path = folder() / name
    if not path.is_file():
        raise BadInput(f"The URL refers to {what} that is not on this machine. Open it on the machine it comes from.")
    data = read_file(path, MAX_BYTES)
    if hashlib.sha256(data).hexdigest() != name:
        raise BadInput(f"The URL refers to {what} that was changed on disk, so it is not used. Enter it again.")
    return data
