"""A shard: one immutable safetensors file, with the keys and checksums of its blocks in its own header.

The header makes a shard whole by itself: an index that is lost is built anew from the shards alone. A block is one row
of one tensor (one prompt at one site). safetensors does not notice a flipped byte, so every block has a checksum.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import mmap
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from safetensors.torch import save

from workbench.errors import BadInput
from workbench.io import safetensors_header
from workbench.io.files import parse_json, sync
from workbench.io.safetensors_header import Tensor

Bytes = UInt8[np.ndarray, "byte"]
SUFFIX = ".safetensors"
PARTIAL = ".partial"
#: Header field of our metadata, and what it says of itself.
FIELD, FORMAT = "workbench", 1
_TRIES = 3


@dataclass(frozen=True)
class Block:
    """Where one block lies: bytes `start` to ``start + size`` of a shard, a tensor of `dtype` and `shape`."""

    key: bytes
    shard: str
    start: int
    size: int
    dtype: str
    shape: tuple[int, ...]
    checksum: bytes


def checksum(data: memoryview, key: bytes, dtype: str, shape: tuple[int, ...]) -> bytes:
    """BLAKE2b, 16 bytes, of a block's bytes and description, so that a wrong row of the index matches no block."""
    state = hashlib.blake2b(f"{dtype}{shape}".encode() + key, digest_size=16)
    state.update(data)
    return state.digest()


def write(
    folder: Path, kind: str, tensors: Mapping[str, tuple[Sequence[bytes], torch.Tensor]]
) -> tuple[str, list[Block]]:
    """Write a shard atomically; returns its name and blocks.

    Args:
        kind: ``activation`` or ``result``, see `workbench.cache.store`.
        tensors: name → keys, one a row, and the rows ``[row, ...]``.

    Raises:
        OSError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    name = f"{uuid.uuid4().hex}{SUFFIX}"
    rows: dict[str, torch.Tensor] = {}
    for title, (_, x) in tensors.items():
        row = x.detach().cpu().contiguous()
        # One layer's output is the next one's input: the same memory, which safetensors would refuse to write twice.
        shared = any(row.untyped_storage().data_ptr() == y.untyped_storage().data_ptr() for y in rows.values())
        rows[title] = row.clone() if shared else row
    sums = {
        title: [[key.hex(), _sum(key, row).hex()] for key, row in zip(keys, rows[title], strict=True)]
        for title, (keys, _) in tensors.items()
    }
    metadata = {"format": FORMAT, "kind": kind, "blocks": sums}
    data = save(rows, metadata={FIELD: json.dumps(metadata)})
    for _ in range(_TRIES):
        try:
            _write_whole(folder / name, data)
            return name, list(blocks(folder / name)[1])
        except FileNotFoundError:
            continue  # a process that was just starting took the unfinished file for a dead one's
    raise OSError(f"{folder} is being cleared while it is written to")


def _write_whole(path: Path, data: bytes) -> None:
    """Write, flush, rename, flush the folder. The file is locked while it is unfinished, so that it is free
    exactly when its writer is dead."""
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("xb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            os.rename(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    sync(path.parent)


def blocks(path: Path) -> tuple[str, list[Block]]:
    """The kind and the blocks of a shard, from its header alone.

    Raises:
        BadInput: no shard, or one that is cut off or says impossible things.
        FileNotFoundError: no such file.
    """
    header = safetensors_header.read(path)
    metadata = parse_json(header.metadata.get(FIELD, "null"), str(path))
    known = metadata.get("blocks") if isinstance(metadata, dict) and metadata.get("format") == FORMAT else None
    if not isinstance(known, dict):
        raise BadInput(f"{path} is not a shard of the activation cache.")
    try:
        listed = [block for tensor in header.tensors for block in _blocks(path.name, tensor, known[tensor.name])]
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: the header is damaged ({error}).") from None
    return str(metadata.get("kind")), listed


def _blocks(shard: str, tensor: Tensor, rows: Sequence[Sequence[str]]) -> Iterator[Block]:
    if not tensor.shape or len(rows) != tensor.shape[0]:
        raise ValueError(f"{tensor.name!r} does not have one key per row")
    size = (tensor.end - tensor.begin) // max(1, len(rows))
    for i, (key, total) in enumerate(rows):
        at = tensor.begin + i * size
        yield Block(bytes.fromhex(key), shard, at, size, tensor.dtype, tensor.shape[1:], bytes.fromhex(total))


def read(path: Path, start: int, size: int) -> Bytes:
    """A copy of a part of a file, mapped for the moment: only its pages are touched, and nothing stays open.

    Raises:
        OSError: no such file, or it cannot be read.
        ValueError: it does not hold those bytes.
    """
    before = start % mmap.ALLOCATIONGRANULARITY
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Looked at first: touching a page past the end of a file kills the process.
        if not 0 <= start <= start + size <= os.fstat(handle).st_size:
            raise ValueError(f"{path} does not contain bytes {start} to {start + size}")
        if not size:
            return np.empty(0, np.uint8)
        with mmap.mmap(handle, before + size, access=mmap.ACCESS_READ, offset=start - before) as view:
            return np.frombuffer(bytearray(memoryview(view)[before:]), np.uint8)
    finally:
        os.close(handle)


def is_intact(block: Block, data: Bytes) -> bool:
    """Whether these bytes are that block."""
    return checksum(data.data, block.key, block.dtype, block.shape) == block.checksum


def tensor_of(block: Block, data: Bytes) -> torch.Tensor:
    """A sound block's bytes as a tensor that shares them."""
    return torch.from_numpy(data).view(getattr(torch, block.dtype)).view(block.shape)


def _sum(key: bytes, row: torch.Tensor) -> bytes:
    data = row.reshape(-1).view(torch.uint8).numpy().data
    return checksum(data, key, str(row.dtype).removeprefix("torch."), tuple(row.shape))
