"""Opening a cache folder whatever state it is in, and what is done about it, each in a few words for one line."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from workbench.cache import shard as shards
from workbench.cache.index import NAME, Index
from workbench.cache.shard import PARTIAL, SUFFIX, Block
from workbench.errors import BadInput

#: Left by a process that found the index damaged while using it.
SUSPECT = "index.suspect"


def open_index(folder: Path, readonly: bool, notes: list[str]) -> Index:
    """The index; one that is damaged is set aside, to be built anew from the shards.

    Raises:
        sqlite3.Error, OSError: it cannot be opened or set aside.
        NewerIndex: a newer version wrote it.
    """
    mark = folder / SUSPECT
    if readonly or not mark.exists():
        try:
            return Index(folder, readonly)
        except sqlite3.DatabaseError as error:
            if readonly or isinstance(error, sqlite3.OperationalError):
                raise
    path = folder / NAME
    with suppress(FileNotFoundError):
        path.replace(path.with_name(f"{NAME}.damaged"))
    for ending in ("-wal", "-shm"):
        path.with_name(NAME + ending).unlink(missing_ok=True)
    mark.unlink(missing_ok=True)
    notes.append(f"the index was damaged and was set aside as {NAME}.damaged;")
    return Index(folder)


def mark_suspect(folder: Path, error: sqlite3.Error | None = None) -> None:
    """Have the next opening set the index aside, where this error (or a check) means that it is damaged."""
    if not isinstance(error, sqlite3.OperationalError):
        with suppress(OSError):
            (folder / SUSPECT).touch()


def tidy_or_rebuild(folder: Path, shard_folder: Path, index: Index, notes: list[str]) -> Index:
    """The index after `tidy`; one whose damage shows only now is set aside, too."""
    try:
        tidy(shard_folder, index, notes)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        index.close()
        mark_suspect(folder)
        index = open_index(folder, False, notes)
        tidy(shard_folder, index, notes)
    return index


def make_room(shard_folder: Path, keep: int | None) -> int:
    """Remove the oldest shards where a full disk lets no index be opened, until `keep` bytes are left, or a tenth less
    than there are; returns how many bytes went."""
    files = sorted(shard_folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime)
    used = sum(path.stat().st_size for path in files)
    limit, gone = int(0.9 * used) if keep is None else keep, 0
    for path in files:
        if used - gone <= limit:
            break
        gone += path.stat().st_size
        path.unlink()
    return gone


def tidy(folder: Path, index: Index, notes: list[str]) -> None:
    """Remove what dead writers left, enter whole shards that the index does not know, forget those that are gone."""
    on_disk, removed = set(), 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(PARTIAL):
                removed += _remove_orphan(entry.path)
            elif entry.name.endswith(SUFFIX):
                on_disk.add(entry.name)
    indexed = index.names()
    entered = sum(_enter(folder / name, index, notes) for name in sorted(on_disk - indexed))
    gone = [name for name in indexed - on_disk if not (folder / name).exists()]
    for name in gone:
        index.forget(name)
    actions = [
        f"{count} {what}"
        for count, what in (
            (entered, "shards that were missing from the index were checked and added"),
            (removed, "unfinished files of processes that have ended were removed"),
            (len(gone), "shards whose files are missing were removed from the index"),
        )
        if count
    ]
    if actions:
        notes.append(", ".join(actions) + ".")


def block_of(path: Path, key: bytes) -> Block | None:
    """What a shard's own header says of a block."""
    try:
        return next((block for block in shards.blocks(path)[1] if block.key == key), None)
    except (BadInput, OSError):
        return None


def _enter(path: Path, index: Index, notes: list[str]) -> bool:
    """Enter a shard's sound blocks; one with a damaged header is set aside, one that holds nothing new is removed."""
    try:
        kind, blocks = shards.blocks(path)
        intact = [block for block in blocks if shards.is_intact(block, shards.read(path, block.start, block.size))]
        if not intact or not index.add(kind, path.stat().st_size, intact):
            path.unlink()
            return False
    except FileNotFoundError:
        return False
    except (BadInput, ValueError):
        path.rename(path.with_suffix(".damaged"))
        notes.append(f"{path.name} is damaged and was set aside;")
        return False
    return True


def _remove_orphan(path: str) -> bool:
    """Remove an unfinished file unless its writer, who holds its lock, is alive."""
    with suppress(OSError), open(path, "rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
        return True
    return False
