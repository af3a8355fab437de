"""Headers of safetensors files, checked before anything is allocated by a number that they name.

Format: https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import UntrustedModel
from workbench.io import trust

LIMIT = 100_000_000  # the reference implementation's own bound
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


@dataclass(frozen=True)
class Header:
    """What a file says of itself: its tensors, in file order, and its free texts."""

    tensors: list[Tensor]
    metadata: Mapping[str, str]


def read(path: Path) -> Header:
    """The header of a file.

    Raises:
        UntrustedModel: a header longer than the file or than `LIMIT`, malformed entries, a byte range that is
            not shape × bytes, overlaps or gaps, or a file that is shorter or longer than its tensors.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(LIMIT, size - 8):
            raise UntrustedModel(
                f"{path} is not a safetensors file: its header claims {length:,} bytes, the file has {size:,} "
                f"(at most {LIMIT:,} are accepted)."
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
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise UntrustedModel(f"{path}: its metadata are not strings.")
    return Header(tensors, metadata)


def _tensor(name: str, entry: Any, base: int, path: Path) -> Tensor:
    def whole(values: Any, count: int | None = None) -> bool:
        return (
            isinstance(values, list)
            and (count is None or len(values) == count)
            and len(values) <= 8
            and all(type(value) is int and 0 <= value < 2**48 for value in values)
        )

    if not isinstance(entry, Mapping) or entry.get("dtype") not in _DTYPES:
        dtype = entry.get("dtype") if isinstance(entry, Mapping) else entry
        raise UntrustedModel(f"{path}: {name!r} has the dtype {dtype!r}; known are {', '.join(_DTYPES)}.")
    if not whole(entry.get("shape")) or not whole(entry.get("data_offsets"), 2):
        raise UntrustedModel(f"{path}: {name!r} has no valid shape and data_offsets.")
    begin, end = entry["data_offsets"]
    expected = math.prod(entry["shape"]) * _DTYPES[entry["dtype"]][1]
    if end - begin != expected:
        raise UntrustedModel(
            f"{path}: {name!r} of shape {entry['shape']} needs {expected:,} bytes, not {end - begin:,}."
        )
    return Tensor(name, _DTYPES[entry["dtype"]][0], tuple(entry["shape"]), base + begin, base + end)
