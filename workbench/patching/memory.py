"""How many edited rows run at once, for a memory limit; and reuse of freed memory."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from workbench.errors import BadInput, UsageError
from workbench.models.resumable import ResumableModel
from workbench.patching.cone import CHUNK

#: A row's peak activations in a layer, in units of one residual vector a position: the residual stream, its norm,
#: q, k, v and z, and the three of a gated MLP of about 2.7 times the width each.
VECTORS = 20


def chunk_for(resumable: ResumableModel, length: int, start: int, tokens: Tensor | None, limit_gb: float) -> int:
    """Rows × positions of a chunk: `CHUNK`, or fewer where the limit requires it.

    A row of P positions takes about ``4 · (P · (20 · d_model + n_heads · T) + readout)`` bytes.

    Raises:
        UsageError: not even one row fits.
    """
    d_model = getattr(getattr(resumable, "model", resumable), "d_model", 1024)
    positions = length - start
    vocabulary = getattr(getattr(getattr(resumable, "model", None), "cfg", None), "d_vocab", 0)
    readout = 3 * vocabulary if tokens is None else 0
    per_row = 4 * (positions * (VECTORS * d_model + 2 * resumable.n_heads * length) + readout)
    rows = int(limit_gb * 1e9 // per_row)
    if rows < 1:
        raise UsageError(
            f"One edited run of {positions} positions needs about {per_row / 1e9:.2f} GB and memory_gb is "
            f"{limit_gb:g}. Raise memory_gb, or use shorter inputs."
        )
    return min(CHUNK, rows * positions)


def need_memory(amount: int) -> None:
    """Refuse what cannot fit.

    Raises:
        BadInput: `amount` bytes are not free (where the system tells).
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return
    if amount > free:
        raise BadInput(
            f"The rest of this recording needs {amount / 1e9:.1f} GB of memory, because nothing more can be stored on "
            f"the disk, and {free / 1e9:.1f} GB are free. Make room (workbench cache gc), or record less."
        )


#: Parameters of glibc's ``mallopt`` (malloc.h), and the values that its own adjustment ends at on 64 bits.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 1024 * 1024
#: Bytes that are worth the time of giving them back, some milliseconds.
_WORTH_TRIMMING = 4 * _LARGEST_MMAP_THRESHOLD


class _MallInfo2(ctypes.Structure):
    """What glibc's ``mallinfo2`` returns (malloc.h); `fordblks` is the number of free bytes."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep freed memory for the next layer while a sweep runs, and give it back to the system at the end, where it is
    more than 128 MB.

    A sweep frees and allocates the same tens of megabytes in every layer. glibc hands such memory back at once, and
    each page then costs a fault when it is next written (decision 8). With another C library nothing is done.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "gnu_get_libc_version"):
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)
        if _free_bytes(libc) > _WORTH_TRIMMING:
            libc.malloc_trim(0)


def _free_bytes(libc: Any) -> float:
    """Bytes that the C library has free; infinitely many where it is too old to tell."""
    try:
        tell = libc.mallinfo2
    except AttributeError:
        return math.inf
    tell.restype = _MallInfo2
    return tell().fordblks
