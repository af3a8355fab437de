"""The store: blocks by key on the disk, checked whenever they are read, and evicted when there are too many.

The store does not know what a block means. It has two kinds: *results*, which are small and outlive *activations*.
Whatever is wrong with a file, the answer is a miss, never a wrong number.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Literal, TypeVar

from torch import Tensor

from workbench.cache import folder as folders
from workbench.cache import health
from workbench.cache import shard as shards
from workbench.cache.index import NAME, Index, NewerIndex
from workbench.cache.locks import locks_of
from workbench.cache.shard import Block, Bytes
from workbench.errors import BadInput

T = TypeVar("T")
Kind = Literal["activation", "result"]
#: Eviction stops at this share of the budget, so that it is not needed at every write.
SLACK = 0.9


class CacheNotice(UserWarning):
    """One line on something that the cache did or cannot do. No number is wrong because of it."""


class Unusable(Exception):
    """This folder cannot be a cache, with the reason."""


class Store:
    """One cache folder, opened by one process.

    Attributes:
        readonly: whether the folder cannot be written.
        full: whether this process has stopped writing, because the disk is full or the index unusable.
        run: the unfinished run that needs what is read and written, see `workbench.cache.unfinished`.
        notes: what opening it had to mend.
        hits, misses: items of work that this process read from the cache, and that it computed.

    Raises:
        Unusable: the folder cannot be read, or was written by a newer version.
    """

    def __init__(self, folder: str | os.PathLike[str], readonly: bool = False) -> None:
        self.folder = Path(folder)
        self.shards = self.folder / "shards"
        self.readonly = readonly or not self._make_folder()
        self.full = False
        self.run: str | None = None
        self.notes: list[str] = []
        self.hits = self.misses = 0
        self._guard = threading.Lock()
        self._touched: set[str] = set()
        try:
            self.locks = None if self.readonly else locks_of(self.folder / "locks")
            # One process at a time: SQLite does not wait while another makes a new file a WAL one.
            with nullcontext() if self.locks is None else self.locks.held(b"opening"):
                self.index = health.open_index(self.folder, self.readonly, self.notes)
                if not self.readonly:
                    self.index = health.tidy_or_rebuild(self.folder, self.shards, self.index, self.notes)
        except (OSError, sqlite3.Error, NewerIndex) as error:
            raise Unusable(str(error)) from error
        self._closer = weakref.finalize(self, _close, self.index, self._touched, self.readonly, os.getpid())
        if self.readonly and not readonly:
            self.notes.append("it is read-only, so nothing new is stored.")
        if self.notes:
            warnings.warn(f"Cache {self.folder}: {' '.join(self.notes)}", CacheNotice, stacklevel=3)

    def count(self, hit: bool) -> None:
        """Count one more item of work, read from the cache or computed."""
        self.hits += hit
        self.misses += not hit

    # --- reading --------------------------------------------------------------------------------------------------

    def has_all(self, keys: Sequence[bytes]) -> bool:
        """Whether the index knows all those keys (their blocks are checked when they are read)."""
        return self._query(lambda: self.index.has_all(keys), False)

    def read(self, key: bytes) -> Tensor | None:
        """A block, copied out of its shard and checked, or None."""
        return self.read_many([key]).get(key)

    def read_many(self, keys: Sequence[bytes]) -> dict[bytes, Tensor]:
        """Those of the blocks that are stored and intact."""
        tensors: dict[bytes, Tensor] = {}
        for key, block in self._query(lambda: self.index.find(keys), {}).items():
            x = self._read(block)
            if x is not None:
                tensors[key] = x
        return tensors

    def _read(self, block: Block) -> Tensor | None:
        data = self._bytes(block)
        if data is not None and shards.is_intact(block, data):
            return shards.tensor_of(block, data)
        return self._repair(block)

    def _bytes(self, block: Block) -> Bytes | None:
        """A copy of a block's bytes (what is checked is what is returned); None where the file does not hold them."""
        try:
            data = shards.read(self._path(block.shard), block.start, block.size)
        except (OSError, ValueError):
            return None
        self._touched.add(block.shard)
        return data

    def _repair(self, block: Block) -> Tensor | None:
        """A block that is not what the index says: believe the shard's own header if its bytes bear it out, else drop
        that block, and no other."""
        path = self._path(block.shard)
        if not path.exists():  # evicted by another process
            self._change(lambda: self.index.forget(block.shard))
            return None
        from_header = health.block_of(path, block.key)
        data = None if from_header is None or from_header == block else self._bytes(from_header)
        if from_header is not None and data is not None and shards.is_intact(from_header, data):
            self._change(lambda: self.index.replace(from_header))
            return shards.tensor_of(from_header, data)
        self._change(lambda: self.index.drop(block.key))
        self._warn(f"dropped a damaged block (byte {block.start} of {block.shard}); it is computed again when needed.")
        return None

    def _path(self, name: str) -> Path:
        """A shard's file. Names come from the index, which is a file like any other: they lead nowhere else."""
        return self.shards / (name if isinstance(name, str) and re.fullmatch(r"\w+\.safetensors", name) else "nowhere")

    # --- writing --------------------------------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether anything new is stored."""
        return not self.readonly and not self.full

    def put(self, kind: Kind, tensors: Mapping[str, tuple[Sequence[bytes], Tensor]]) -> bool:
        """Store tensors, one block a row (name → keys and ``[row, ...]``); True once they are on the disk.

        A known key keeps its value. On a full or unwritable disk there is one warning, and this process stores nothing
        more.
        """
        if not self.writable:
            return False
        try:
            name, blocks = shards.write(self.shards, kind, tensors)
            if self._enter(kind, name, blocks) and self.run is not None:
                self.index.touch([name], self.run)
            self.trim()
        except (OSError, sqlite3.Error, BadInput) as error:
            self.full = True
            reason = getattr(error, "strerror", None) or str(error)
            self._warn(
                f"nothing more is stored ({reason}); the computation continues. 'workbench cache gc' makes room."
            )
            return False
        return True

    def _enter(self, kind: Kind, name: str, blocks: Sequence[Block]) -> bool:
        """Enter a new shard; False where the index knew all of it, and the file is removed again."""
        path = self.shards / name
        try:
            new = self.index.add(kind, path.stat().st_size, blocks)
        except FileNotFoundError:
            # Another process, just opening the cache, saw nothing new in it and removed it.
            if not self.index.has_all([block.key for block in blocks]):
                raise
            return False
        if not new:
            path.unlink(missing_ok=True)
        return new

    def trim(self, budget: int | None = None, spare_pinned: bool = False) -> int:
        """Evict until `budget` bytes are left (by default the folder's own); returns how many bytes went.

        What unfinished runs need goes last, or with `spare_pinned` not at all.
        """
        used = self.index.size()
        limit = folders.budget(self.folder, used) if budget is None else budget
        if used <= limit:
            return 0
        self.flush()
        gone = 0
        for name, size in self.index.oldest(spare_pinned):
            if used - gone <= limit * SLACK:
                break
            # The file first: a row without a file is a miss, a file without a row would be entered again.
            with suppress(FileNotFoundError):
                self._path(name).unlink()
            self.index.forget(name)
            gone += size
        return gone

    def flush(self) -> None:
        """Enter which shards were used since the last time."""
        with self._guard:
            touched = set(self._touched)
            self._touched.clear()
        if touched:
            self._change(lambda: self.index.touch(touched, self.run))

    def verify(self) -> tuple[int, int, list[str]]:
        """Check every block of every shard: how many are sound, how many were lost, and what was wrong.

        Damaged blocks are dropped (a read-only cache keeps them).
        """
        intact, wrong = 0, []
        for name in sorted(self.index.names()):
            for block in self.index.blocks(name):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", CacheNotice)
                    if self._read(block) is not None:
                        intact += 1
                    else:
                        wrong.append(f"{name}: the block at byte {block.start} is damaged or missing")
        return intact, len(wrong), wrong

    @classmethod
    def open_checked(cls, folder: str | os.PathLike[str]) -> Store:
        """A store whose index was checked as a whole, and built anew where it is damaged.

        Raises:
            Unusable: as `Store`.
        """
        store = cls(folder)
        if store.readonly or store.index.check():
            return store
        store.close()
        health.mark_suspect(store.folder)
        return cls(folder)

    def close(self) -> None:
        """Flush and close."""
        self._closer()

    # --- in words -------------------------------------------------------------------------------------------------

    def _make_folder(self) -> bool:
        """Make the folder; whether it can be written."""
        try:
            self.shards.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".probe-{os.getpid()}-{threading.get_ident()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            if not (self.folder / NAME).is_file():
                raise Unusable(f"{self.folder} cannot be written ({error.strerror or error})") from error
            return False
        return True

    def _warn(self, text: str) -> None:
        warnings.warn(f"Cache {self.folder}: {text}", CacheNotice, stacklevel=4)

    def _change(self, change: Callable[[], None]) -> None:
        if not self.readonly:
            self._query(change, None)

    def _query(self, query: Callable[[], T], otherwise: T) -> T:
        """An answer of the index; `otherwise` where it fails: a cache that cannot answer is a miss."""
        try:
            return query()
        except sqlite3.Error as error:
            if not self.full:
                self.full = True
                if not self.readonly:
                    health.mark_suspect(self.folder, error)
                self._warn(f"the index cannot be used ({error}); this process stores nothing.")
            return otherwise


def _close(index: Index, touched: set[str], readonly: bool, owner: int) -> None:
    if os.getpid() != owner:
        return
    with suppress(sqlite3.Error):
        if touched and not readonly:
            index.touch(touched)
        index.close()
