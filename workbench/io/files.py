"""What every result file shares: plain JSON, hashes, atomic writes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import uuid
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, BinaryIO

from workbench import arguments
from workbench.core import Head
from workbench.errors import BadInput, UsageError

#: What JSON from outside may be: bytes, and levels of nesting.
JSON_BYTES = 16 * 2**20
JSON_DEPTH = 24


def jsonable(value: Any) -> Any:
    """`value` as JSON knows it: numbers that are not finite become null, heads ``9.6``, numpy and paths plain.

    Raises:
        UsageError: it holds something that has no JSON form.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Head | Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, Set):
        return [jsonable(item) for item in sorted(value)]
    if isinstance(value, Sequence):
        return [jsonable(item) for item in value]
    tolist = getattr(value, "tolist", None)  # arrays and scalars of numpy
    if tolist is not None:
        return jsonable(tolist())
    raise UsageError(
        f"{value!r} ({type(value).__name__}) cannot be written as JSON. Give numbers, strings, or lists or mappings "
        "of these."
    )


def parse_json(text: str | bytes, what: str) -> Any:
    """JSON from outside, refused when it is too large, too deep or not JSON.

    Raises:
        BadInput: with `what` (a path) and the problem.
    """
    if len(text) > JSON_BYTES:
        raise BadInput(f"{what}: {len(text)} bytes of JSON, and at most {JSON_BYTES} are read.")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{what} is not valid JSON ({str(error) or 'nested too deeply'}).") from None
    level: list[Any] = [value]
    for _ in range(JSON_DEPTH):
        level = [item for node in level if isinstance(node, dict | list) for item in _children(node)]
        if not level:
            return value
    raise BadInput(f"{what}: JSON nested deeper than {JSON_DEPTH} levels.")


def read_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """The bytes of a plain file of at most `limit` bytes.

    Raises:
        BadInput: no such file, not a file, or too large.
    """
    path = arguments.file_path("path", path)
    if not path.is_file():
        raise BadInput(f"{path} does not exist or is not a file.")
    with path.open("rb") as stream:
        data = read_at_most(stream, limit + 1)
    if len(data) > limit:
        raise BadInput(f"{path} is larger than {limit} bytes, the limit for such a file.")
    return data


def read_at_most(stream: BinaryIO, limit: int) -> bytes:
    """The first `limit` bytes, piece by piece: ``stream.read(limit)`` would allocate all of them first."""
    parts: list[bytes] = []
    while limit and (part := stream.read(min(limit, 2**20))):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_arrays(text: str, arrays: Mapping[str, Any]) -> str:
    """SHA-256 of a text and of named numpy arrays."""
    state = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        state.update(name.encode() + arrays[name].tobytes())
    return state.hexdigest()


def write_atomic(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write `data` to `path` so that a reader sees the old file or the new one, and a crash leaves one of the two."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(data)
        sync(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)
    return path


def save_atomic(path: str | os.PathLike[str], data: bytes) -> Path:
    """`write_atomic` for a place that the user named.

    Raises:
        BadInput: it cannot be written.
    """
    path = arguments.file_path("path", path)
    try:
        return write_atomic(path, data)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise BadInput(f"{str(path)!r} cannot be written: {reason}. Choose another path.") from None


def sync(path: str | os.PathLike[str]) -> None:
    """Flush a file or a folder to the disk (folders cannot be flushed on Windows: nothing is done there)."""
    if os.name == "nt" and os.path.isdir(path):
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _children(node: dict | list) -> list[Any]:
    return list(node.values()) if isinstance(node, dict) else node
