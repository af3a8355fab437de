"""Reading weights: the header is checked before anything is allocated, the bytes are hashed as they are read.

Every tensor gets memory of its own, private and writable, aligned as torch aligns it, so that values do not depend on
where in a file they lay; the hash is that of the very bytes that went into the tensors.
Format: https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import UntrustedModel
from workbench.io import safetensors_header
from workbench.io.safetensors_header import LIMIT, Tensor

if TYPE_CHECKING:
    import torch

_CHUNK = 4 * 2**20


def elements(paths: Sequence[Path]) -> tuple[int, int]:
    """How many numbers and how many tensors the files hold, from their headers."""
    tensors = [tensor for path in paths for tensor in safetensors_header.read(path).tensors]
    return sum(tensor.elements for tensor in tensors), len(tensors)


def shapes(paths: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of the files, from their headers."""
    return {tensor.name: tensor.shape for path in paths for tensor in safetensors_header.read(path).tensors}


def read(paths: Sequence[Path]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """All tensors of the files, in new memory, and the SHA-256 of each file by name.

    Raises:
        UntrustedModel: as `workbench.io.safetensors_header.read`; also for a name that two files hold, or a file that
            shrinks meanwhile.
    """
    state: dict[str, torch.Tensor] = {}
    hashes: dict[str, str] = {}
    for path in paths:
        tensors = safetensors_header.read(path).tensors
        if repeated := sorted(set(state) & {tensor.name for tensor in tensors}):
            raise UntrustedModel(f"{path} contains {repeated[0]!r}, and so does another file of the model.")
        with FileIO(path) as file, _Hasher() as hasher:
            hasher.add(_header_bytes(file, path))
            for tensor in tensors:
                state[tensor.name] = _read_tensor(file, tensor, hasher, path)
            hashes[path.name] = hasher.result()
    return state, hashes


def _header_bytes(file: FileIO, path: Path) -> bytes:
    start = file.read(8)
    length = struct.unpack("<Q", start)[0]
    rest = bytearray(min(length, LIMIT))
    _fill(file, memoryview(rest), path)
    return start + bytes(rest)


def _read_tensor(file: FileIO, tensor: Tensor, hasher: _Hasher, path: Path) -> torch.Tensor:
    import torch

    weight = torch.empty(tensor.shape, dtype=getattr(torch, tensor.dtype))
    if tensor.elements:
        # numpy shares the memory and knows the buffer protocol, which torch's tensors do not
        target = memoryview(weight.reshape(-1).view(torch.uint8).numpy().data)
        for begin in range(0, len(target), _CHUNK):
            chunk = target[begin : begin + _CHUNK]
            _fill(file, chunk, path)
            hasher.add(chunk)
    return weight


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
