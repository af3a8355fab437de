"""Who computes what: locks that the kernel releases when their holder dies, and how many processes are at work.

POSIX record locks of single bytes in one file. They belong to a process, so threads of one process are told apart by a
set beside them. The file is opened once a process and never closed: closing any handle on it would drop its locks.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: The first bytes of the file: one for each process at work.
WORKERS = 64


#: One for each file and process: closing any handle on the file would drop the locks of all of them.
_OPEN: dict[tuple[int, Path], Locks] = {}


def locks_of(path: Path) -> Locks:
    """The locks that this process has in a file.

    Raises:
        OSError: it cannot be made or written.
    """
    key = (os.getpid(), path.absolute())
    if key not in _OPEN:
        _OPEN[key] = Locks(path)
    return _OPEN[key]


class Locks:
    """The locks of one cache folder, for this process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._owner = os.getpid()
        self._held: set[int] = set()
        self._guard = threading.Lock()
        self._worker: int | None = None
        self._working = 0

    def take(self, key: bytes) -> bool:
        """Take the lock of an item of work, now; False when another process has it."""
        return self._take(_place(key))

    def release(self, key: bytes) -> None:
        """Give it back."""
        self._release(_place(key))

    def wait(self, key: bytes, seconds: float = 0.02) -> None:
        """Return soon after the lock of that item is free, or its holder dead."""
        with self.held(key, seconds):
            pass

    @contextmanager
    def held(self, key: bytes, seconds: float = 0.02) -> Iterator[None]:
        """Hold the lock of `key` for the block; others wait."""
        while not self.take(key):
            time.sleep(seconds)
        try:
            yield
        finally:
            self.release(key)

    def start_work(self) -> None:
        """Be counted among the processes at work (nested calls count once)."""
        with self._guard:
            self._working += 1
            first = self._working == 1
        if first:
            self._worker = next((slot for slot in range(WORKERS) if self._take(slot)), None)

    def end_work(self) -> None:
        """No longer be counted."""
        with self._guard:
            self._working -= 1
            last = self._working == 0
        if last and self._worker is not None:
            self._release(self._worker)
            self._worker = None

    def workers(self) -> int:
        """How many processes are at work, this one included."""
        others = 0
        for slot in range(WORKERS):
            if slot == self._worker:
                continue
            if not self._take(slot):
                others += 1
                continue
            self._release(slot)
            if slot > (self._worker or 0) + 8:  # slots are filled from the first on
                break
        return others + 1

    def _take(self, place: int) -> bool:
        with self._guard:
            if place in self._held or os.getpid() != self._owner:
                return False
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except OSError:
                return False
            self._held.add(place)
            return True

    def _release(self, place: int) -> None:
        with self._guard:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)
            self._held.discard(place)


def _place(key: bytes) -> int:
    return WORKERS + int.from_bytes(key[:7], "little")
