"""The index: which block of which shard holds a key. SQLite in WAL mode; it can always be built anew from the shards.

`used` orders shards by their last use with a counter of the index's own, so that no clock matters.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from workbench.cache.shard import Block

NAME = "index.sqlite"
#: Version of the tables.
VERSION = 1
_TABLES = """
CREATE TABLE shard (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, size INTEGER NOT NULL,
                    used INTEGER NOT NULL);
CREATE TABLE block (key BLOB PRIMARY KEY, shard INTEGER NOT NULL, start INTEGER NOT NULL, size INTEGER NOT NULL,
                    dtype TEXT NOT NULL, shape TEXT NOT NULL, checksum BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX block_of_shard ON block (shard);
CREATE TABLE pin (run TEXT NOT NULL, shard INTEGER NOT NULL, PRIMARY KEY (run, shard)) WITHOUT ROWID;
"""
#: Keys in one query.
_MANY = 500


class NewerIndex(Exception):
    """The index was written by a newer version."""


class Index:
    """An open index. All methods may be called from any thread.

    Raises:
        NewerIndex: its version is newer than `VERSION`.
        sqlite3.Error: it is damaged, or cannot be opened.
    """

    def __init__(self, folder: Path, readonly: bool = False) -> None:
        path = folder / NAME
        address = f"{path.absolute().as_uri()}?mode=ro&immutable=1" if readonly else str(path)
        self._guard = threading.RLock()
        self._db = sqlite3.connect(address, uri=readonly, timeout=60, isolation_level=None, check_same_thread=False)
        try:
            if not readonly:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
            self._prepare(readonly)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, readonly: bool) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise NewerIndex(f"version {version}, this one knows {VERSION}")
        if version < VERSION and not readonly:
            with self.transaction():
                (version,) = self._db.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    for statement in _TABLES.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version={VERSION}")
        self._db.execute("SELECT 1 FROM block LIMIT 1").fetchone()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; other writers wait."""
        with self._guard:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def add(self, kind: str, size: int, blocks: Sequence[Block]) -> bool:
        """Enter a shard and its blocks; a known key keeps its block. False when none of them was new."""
        with self.transaction():
            used = self._next()
            shard = self._db.execute(
                "INSERT OR IGNORE INTO shard (name, kind, size, used) VALUES (?, ?, ?, ?) RETURNING id",
                (blocks[0].shard, kind, size, used),
            ).fetchone()
            if shard is None:
                return True  # another process entered it meanwhile
            entered = self._db.executemany(
                "INSERT OR IGNORE INTO block VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(b.key, shard[0], b.start, b.size, b.dtype, ",".join(map(str, b.shape)), b.checksum) for b in blocks],
            ).rowcount
            if not entered:
                self._db.execute("DELETE FROM shard WHERE id = ?", shard)
        return bool(entered)

    def find(self, keys: Iterable[bytes]) -> dict[bytes, Block]:
        """The blocks of those keys that the index knows."""
        keys, blocks = list(keys), {}
        for at in range(0, len(keys), _MANY):
            part = keys[at : at + _MANY]
            query = f"""SELECT key, name, start, block.size, dtype, shape, checksum FROM block
                        JOIN shard ON shard.id = block.shard WHERE key IN ({",".join("?" * len(part))})"""
            with self._guard:
                blocks |= {row[0]: _block(*row) for row in self._db.execute(query, part)}
        return blocks

    def has_all(self, keys: Sequence[bytes]) -> bool:
        """Whether the index knows every key."""
        for at in range(0, len(keys), _MANY):
            part = list(dict.fromkeys(keys[at : at + _MANY]))
            query = f"SELECT count(*) FROM block WHERE key IN ({','.join('?' * len(part))})"
            with self._guard:
                (count,) = self._db.execute(query, part).fetchone()
            if count < len(part):
                return False
        return True

    def names(self) -> set[str]:
        """The shards entered."""
        with self._guard:
            return {name for (name,) in self._db.execute("SELECT name FROM shard") if isinstance(name, str)}

    def blocks(self, name: str) -> list[Block]:
        """The blocks entered of one shard."""
        with self._guard:
            rows = self._db.execute(
                "SELECT key, start, block.size, dtype, shape, checksum FROM block JOIN shard ON shard.id = block.shard "
                "WHERE name = ?",
                (name,),
            ).fetchall()
        return [_block(row[0], name, *row[1:]) for row in rows]

    def replace(self, block: Block) -> None:
        """Correct the row of a block."""
        with self.transaction():
            self._db.execute(
                "UPDATE block SET start = ?, size = ?, dtype = ?, shape = ?, checksum = ? WHERE key = ?",
                (block.start, block.size, block.dtype, ",".join(map(str, block.shape)), block.checksum, block.key),
            )

    def drop(self, key: bytes) -> None:
        """Drop one block; its key is a miss from now on. `trim` removes shards without blocks first."""
        with self.transaction():
            self._db.execute("DELETE FROM block WHERE key = ?", (key,))

    def forget(self, name: str) -> None:
        """Drop a shard and its blocks; its keys are misses from now on."""
        with self.transaction():
            self._db.execute("DELETE FROM block WHERE shard = (SELECT id FROM shard WHERE name = ?)", (name,))
            self._db.execute("DELETE FROM pin WHERE shard = (SELECT id FROM shard WHERE name = ?)", (name,))
            self._db.execute("DELETE FROM shard WHERE name = ?", (name,))

    def touch(self, names: Iterable[str], run: str | None = None) -> None:
        """These shards were used just now; `run` needs them until `unpin`."""
        names = list(names)
        with self.transaction():
            used = self._next()
            self._db.executemany("UPDATE shard SET used = ? WHERE name = ?", [(used, name) for name in names])
            if run is not None:
                self._db.executemany(
                    "INSERT OR IGNORE INTO pin SELECT ?, id FROM shard WHERE name = ?", [(run, name) for name in names]
                )

    def unpin(self, run: str) -> None:
        """`run` is finished, or abandoned."""
        with self.transaction():
            self._db.execute("DELETE FROM pin WHERE run = ?", (run,))

    def pinned(self) -> dict[str, int]:
        """Unfinished runs and how many shards each needs."""
        with self._guard:
            return dict(self._db.execute("SELECT run, count(*) FROM pin GROUP BY run").fetchall())

    def size(self) -> int:
        """Bytes of all shards."""
        with self._guard:
            return self._db.execute("SELECT coalesce(sum(size), 0) FROM shard").fetchone()[0]

    def counts(self) -> dict[str, tuple[int, int, int]]:
        """Kind → shards, blocks, bytes."""
        blocks = "SELECT kind, count(*) FROM block JOIN shard ON shard.id = block.shard GROUP BY kind"
        with self._guard:
            held = dict(self._db.execute(blocks).fetchall())
            rows = self._db.execute("SELECT kind, count(*), sum(size) FROM shard GROUP BY kind").fetchall()
        return {kind: (shards, held.get(kind, 0), size) for kind, shards, size in rows}

    def oldest(self, spare_pinned: bool = False) -> list[tuple[str, int]]:
        """Shards and their sizes in the order in which they may go: empty ones, activations before results, least
        recently used first, and what an unfinished run needs last of all, or not at all."""
        spared = "WHERE NOT filled OR id NOT IN (SELECT shard FROM pin)" if spare_pinned else ""
        query = f"""SELECT name, size, id IN (SELECT shard FROM block) AS filled FROM shard {spared}
                   ORDER BY filled AND id IN (SELECT shard FROM pin), filled AND kind = 'result', filled, used, id"""
        with self._guard:
            return [(name, size) for name, size, _ in self._db.execute(query)]

    def check(self) -> bool:
        """Whether SQLite finds its file sound."""
        with self._guard:
            try:
                return self._db.execute("PRAGMA quick_check").fetchone()[0] == "ok"
            except sqlite3.DatabaseError:
                return False

    def close(self) -> None:
        """Close it, with everything moved from the log into the file."""
        with self._guard:
            self._db.close()

    def _next(self) -> int:
        return self._db.execute("SELECT coalesce(max(used), 0) + 1 FROM shard").fetchone()[0]


def _block(key: bytes, name: str, start: int, size: int, dtype: str, shape: str, total: bytes) -> Block:
    """A row as a block; one that a damaged file made impossible becomes one whose checksum cannot fit."""
    try:
        return Block(key, name, int(start), int(size), str(dtype), tuple(int(n) for n in shape.split(",") if n), total)
    except (ValueError, TypeError, AttributeError):
        return Block(key, name, 0, 0, "", (), b"")
