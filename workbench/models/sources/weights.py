"""Reading safetensors: the header is checked before anything is allocated, the bytes are hashed as they are read.

Every tensor gets memory of its own, private and writable, aligned as torch aligns it, so that values do not depend on
where in a file they lay; the hash is that of the very bytes that went into the tensors.
Format: https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UntrustedModel
from workbench.models import trust

if TYPE_CHECKING:
    import torch

HEADER_LIMIT = 100_000_000  # the reference implementation's own bound
_CHUNK = 4 * 2**20
#: safetensors' names, torch's names, bytes a number.
_DTYPES = {
    "F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2),
    "I64": ("int64", 8), "I32": ("int32", 4), "I16": ("int16", 2), "I8": ("int8", 1), "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """One tensor of a safetensors header; `begin` and `end` count from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def read_header(path: Path) -> list[Tensor]:
    """The tensors of a file, in file order.

    Raises:
        UntrustedModel: a header longer than the file or than `HEADER_LIMIT`, malformed entries, a byte range that is
            not shape × bytes, overlaps or gaps, or a file that is shorter or longer than its tensors.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(HEADER_LIMIT, size - 8):
            raise UntrustedModel(
                f"{path} is no safetensors file: its header claims {length:,} bytes, the file has {size:,} "
                f"(at most {HEADER_LIMIT:,} are accepted)."
            )
        header = trust.parse_json(file.read(length), f"The header of {path}")
    base = 8 + length
    tensors = [_tensor(name, entry, base, path) for name, entry in header.items() if name != "__metadata__"]
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    end = base
    for tensor in tensors:
        if tensor.begin != end:
            raise UntrustedModel(f"{path}: {tensor.name!r} starts at byte {tensor.begin:,}, expected {end:,}.")
        end = tensor.end
    if end != size:
        raise UntrustedModel(f"{path} has {size:,} bytes; its header describes {end:,}. It is truncated or altered.")
    return tensors


def _tensor(name: str, entry: Any, base: int, path: Path) -> Tensor:
    def whole(values: Any, count: int | None = None) -> bool:
        return (
            isinstance(values, list)
            and (count is None or len(values) == count)
            and len(values) <= 8
            and all(type(value) is int and 0 <= value < 2**48 for value in values)
        )

    if not isinstance(entry, Mapping) or entry.get("dtype") not in _DTYPES:
        found = entry.get("dtype") if isinstance(entry, Mapping) else entry
        raise UntrustedModel(f"{path}: {name!r} has the dtype {found!r}; known are {', '.join(_DTYPES)}.")
    if not whole(entry.get("shape")) or not whole(entry.get("data_offsets"), 2):
        raise UntrustedModel(f"{path}: {name!r} has no valid shape and data_offsets.")
    begin, end = entry["data_offsets"]
    expected = math.prod(entry["shape"]) * _DTYPES[entry["dtype"]][1]
    if end - begin != expected:
        raise UntrustedModel(
            f"{path}: {name!r} of shape {entry['shape']} needs {expected:,} bytes, not {end - begin:,}."
        )
    return Tensor(name, _DTYPES[entry["dtype"]][0], tuple(entry["shape"]), base + begin, base + end)


def elements(paths: Sequence[Path]) -> tuple[int, int]:
    """How many numbers and how many tensors the files hold, from their headers."""
    tensors = [tensor for path in paths for tensor in read_header(path)]
    return sum(tensor.elements for tensor in tensors), len(tensors)


def read(paths: Sequence[Path]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """All tensors of the files, in new memory, and the SHA-256 of each file by name.

    Raises:
        UntrustedModel: as `read_header`; also for a name that two files hold, or a file that shrinks meanwhile.
    """
    state: dict[str, torch.Tensor] = {}
    hashes: dict[str, str] = {}
    for path in paths:
        tensors = read_header(path)
        if twice := sorted(set(state) & {tensor.name for tensor in tensors}):
            raise UntrustedModel(f"{path} holds {twice[0]!r}, which another file of the model holds as well.")
        with FileIO(path) as file, _Hasher() as hasher:
            hasher.add(_header_bytes(file, path))
            for tensor in tensors:
                state[tensor.name] = _read_tensor(file, tensor, hasher, path)
            hashes[path.name] = hasher.result()
    return state, hashes


def _header_bytes(file: FileIO, path: Path) -> bytes:
    start = file.read(8)
    length = struct.unpack("<Q", start)[0]
    rest = bytearray(min(length, HEADER_LIMIT))
    _fill(file, memoryview(rest), path)
    return start + bytes(rest)


def _read_tensor(file: FileIO, tensor: Tensor, hasher: _Hasher, path: Path) -> torch.Tensor:
    import torch

    made = torch.empty(tensor.shape, dtype=getattr(torch, tensor.dtype))
    if tensor.elements:
        # numpy shares the memory and knows the buffer protocol, which torch's tensors do not
        target = memoryview(made.reshape(-1).view(torch.uint8).numpy().data)
        for begin in range(0, len(target), _CHUNK):
            chunk = target[begin : begin + _CHUNK]
            _fill(file, chunk, path)
            hasher.add(chunk)
    return made


def _fill(file: FileIO, target: memoryview, path: Path) -> None:
    done = 0
    while done < len(target):
        count = file.readinto(target[done:])
        if not count:
            raise UntrustedModel(f"{path} ended while it was being read: another program is changing it.")
        done += count


class _Hasher:
    """SHA-256 in a second thread, so that hashing one piece overlaps with reading the next."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def add(self, data: bytes | memoryview) -> None:
        self._last = self._pool.submit(self._hash.update, data)

    def result(self) -> str:
        if self._last is not None:
            self._last.result()  # one worker: the pieces before it are done as well
        return self._hash.hexdigest()

    def __enter__(self) -> _Hasher:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
