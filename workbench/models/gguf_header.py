"""A small, bounded reader of GGUF headers, run before any other parser sees the file.

Pure Python, and nothing is allocated by a number that the file names: counts, lengths and nesting have limits, and
every tensor's byte range must follow from its shape and type and lie where the previous one ends.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian).
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import UntrustedModel

TENSOR_LIMIT = 1 << 16
KEY_LIMIT = 1 << 12
STRING_LIMIT = 1 << 20
ARRAY_LIMIT = 1 << 24
NESTING_LIMIT = 2
_STRING, _ARRAY = 8, 9
#: Value types of fixed size, as struct formats: 8 to 32 bits unsigned and signed, float, bool, 64 bits, double.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
#: Tensor types: numbers in a block, bytes of a block.
_TYPES: Mapping[int, tuple[int, int]] = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """One tensor: its shape as GGUF lists it (fastest dimension first), type number and bytes from the file's start."""

    name: str
    shape: tuple[int, ...]
    kind: int
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a GGUF file says about itself; arrays in the metadata (vocabularies) are checked and stored as lengths."""

    version: int
    metadata: Mapping[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    @property
    def elements(self) -> int:
        """How many numbers the tensors hold."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)


def read(path: Path) -> Header:
    """Check and return the header of a GGUF file.

    Raises:
        UntrustedModel: not GGUF, another version or byte order, truncated, a limit exceeded, a name that occurs
            twice, or tensors that overlap, leave gaps or end outside the file. The message says what is wrong.
    """
    size = path.stat().st_size
    if size < 24:
        raise UntrustedModel(f"{path} is not a GGUF file: it has {size} bytes, and the header alone takes 24.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return _Reader(path, view).header()


class _Reader:
    """A cursor over the mapped file that never moves past its end."""

    def __init__(self, path: Path, view: mmap.mmap) -> None:
        self.path, self.view, self.size, self.at = path, view, len(view), 0

    def refuse(self, problem: str) -> UntrustedModel:
        return UntrustedModel(
            f"{self.path} is refused as a GGUF file: {problem} (at byte {self.at:,} of {self.size:,})."
        )

    def need(self, count: int, what: str) -> None:
        if count > self.size - self.at:
            raise self.refuse(f"{what} needs {count:,} bytes, and {self.size - self.at:,} are left")

    def number(self, kind: str, what: str) -> Any:
        width = struct.calcsize(kind)
        self.need(width, what)
        (value,) = struct.unpack_from(f"<{kind}", self.view, self.at)
        self.at += width
        return value

    def count(self, limit: int, what: str) -> int:
        value = self.number("Q", what)
        if value > limit:
            raise self.refuse(f"{what} is {value:,}, and the limit is {limit:,}")
        return value

    def string(self, what: str, limit: int = STRING_LIMIT) -> str:
        length = self.count(limit, f"the length of {what}")
        self.need(length, what)
        data = self.view[self.at : self.at + length]
        self.at += length
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise self.refuse(f"{what} is not UTF-8") from None

    def skip_strings(self, count: int, what: str) -> None:
        self.need(8 * count, what)
        for _ in range(count):
            length = self.count(STRING_LIMIT, f"the length of a string in {what}")
            self.need(length, what)
            self.at += length

    def value(self, kind: int, what: str, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.string(what)
        if kind in _SCALARS:
            return self.number(_SCALARS[kind], what)
        if kind != _ARRAY:
            raise self.refuse(f"{what} has the unknown value type {kind}")
        if depth == NESTING_LIMIT:
            raise self.refuse(f"{what} nests arrays more than {NESTING_LIMIT} deep")
        inner, length = self.number("I", what), self.count(ARRAY_LIMIT, f"the length of {what}")
        if inner in _SCALARS:
            width = struct.calcsize(_SCALARS[inner]) * length
            self.need(width, what)
            self.at += width
        elif inner == _STRING:
            self.skip_strings(length, what)
        else:
            self.need(12 * length, what)  # an inner array is at least its type and its length
            for _ in range(length):
                self.value(inner, what, depth + 1)
        return length

    def header(self) -> Header:
        magic = self.view[:4]
        if magic != b"GGUF":
            raise self.refuse(f"it starts with {magic!r}, not with b'GGUF'")
        self.at = 4
        version = self.number("I", "the version")
        if version not in (2, 3):
            raise self.refuse(f"version {version} is not 2 or 3 (little-endian)")
        tensor_count = self.count(TENSOR_LIMIT, "the number of tensors")
        key_count = self.count(KEY_LIMIT, "the number of metadata keys")
        metadata: dict[str, Any] = {}
        for _ in range(key_count):
            key = self.string("a metadata key", limit=1 << 16)
            if key in metadata:
                raise self.refuse(f"the metadata key {key[:80]!r} occurs twice")
            metadata[key] = self.value(self.number("I", f"the type of {key[:80]!r}"), f"the value of {key[:80]!r}")
        entries = [self.entry() for _ in range(tensor_count)]
        return Header(version, metadata, self.ranges(entries, metadata.get("general.alignment", 32)))

    def entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.string("a tensor's name", limit=1 << 10)
        dimensions = self.number("I", f"the number of dimensions of {name!r}")
        if not 1 <= dimensions <= 4:
            raise self.refuse(f"tensor {name!r} has {dimensions} dimensions, and 1 to 4 are accepted")
        shape = tuple(self.number("Q", f"the shape of {name!r}") for _ in range(dimensions))
        if min(shape) < 1 or max(shape) >= 1 << 40:
            raise self.refuse(f"tensor {name!r} has the shape {list(shape)}")
        kind = self.number("I", f"the type of {name!r}")
        if kind not in _TYPES:
            raise self.refuse(f"tensor {name!r} has the unknown type {kind}")
        if shape[0] % _TYPES[kind][0]:
            raise self.refuse(f"tensor {name!r}: rows of {shape[0]} are not a multiple of its type's {_TYPES[kind][0]}")
        return name, shape, kind, self.number("Q", f"the offset of {name!r}")

    def ranges(self, entries: list[tuple[str, tuple[int, ...], int, int]], alignment: Any) -> tuple[Tensor, ...]:
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 16 or alignment & (alignment - 1):
            raise self.refuse(f"the alignment {alignment!r} is not a power of two up to {1 << 16:,}")
        if len({name for name, *_ in entries}) != len(entries):
            raise self.refuse("a tensor name occurs twice")
        base = _up(self.at, alignment)
        tensors, expected = [], 0
        for name, shape, kind, offset in sorted(entries, key=lambda entry: entry[3]):
            per_block, width = _TYPES[kind]
            length = math.prod(shape) // per_block * width
            if offset != expected:
                relation = "overlaps the tensor before it" if offset < expected else "leaves a gap"
                raise self.refuse(f"tensor {name!r} {relation}: it starts at {offset:,}, expected {expected:,}")
            if base + offset + length > self.size:
                raise self.refuse(
                    f"tensor {name!r} of shape {list(shape)} ends at byte {base + offset + length:,}, outside the "
                    "file: it is truncated or altered"
                )
            tensors.append(Tensor(name, shape, kind, base + offset, base + offset + length))
            expected = _up(offset + length, alignment)
        return tuple(tensors)


def _up(value: int, alignment: int) -> int:
    return (value + alignment - 1) // alignment * alignment
