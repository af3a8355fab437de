"""Whatever happens to a file of the cache is a miss, never a wrong number, and the next opening repairs it."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from tests.workbench.cache.stores import KEYS, rows, shard_of
from workbench.cache import CacheNotice, Store, Unusable
from workbench.cache import shard as shards
from workbench.cache.index import NAME
from workbench.cache.keys import digest
from workbench.registry import ROOT


@pytest.mark.filterwarnings("ignore::workbench.cache.CacheNotice")
def test_any_page_of_the_index_may_be_damaged(tmp_path: Path) -> None:
    """The next opening or the one after it heals the cache, and no number is wrong."""
    rows = torch.arange(400.0).reshape(100, 4)
    keys = [bytes([i]) * 20 for i in range(100)]
    store = Store(tmp_path / "whole")
    for at in range(0, 100, 5):
        store.put("result", {"x": (keys[at : at + 5], rows[at : at + 5])})
    store.close()
    pages = (tmp_path / "whole" / NAME).stat().st_size // 4096
    assert pages > 4
    for page in range(pages):
        folder = tmp_path / str(page)
        shutil.copytree(tmp_path / "whole", folder)
        with (folder / NAME).open("r+b") as file:
            file.seek(page * 4096)
            file.write(bytes(4096))
        for _ in range(2):
            opened = Store(folder)
            stored = opened.read_many(keys)
            assert all(torch.equal(x, rows[keys.index(key)]) for key, x in stored.items())
            opened.close()
        healed = Store.open_checked(folder)
        assert len(healed.read_many(keys)) == len(keys), page
        healed.close()


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_anywhere_costs_at_most_its_block(filled: Store, seed: int) -> None:
    filled.close()
    path, draw = shard_of(filled), random.Random(seed)
    data = bytearray(path.read_bytes())
    at = draw.randrange(len(data))
    data[at] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheNotice)
        store = Store(filled.folder)
        stored = store.read_many(KEYS)
        assert all(torch.equal(x, rows()[KEYS.index(key)]) for key, x in stored.items())
        assert len(stored) == (5 if at >= len(data) - 6 * 48 else 6)  # the header is not needed while there is an index
        assert store.put("activation", {"z": (KEYS, rows())})  # and it can be computed again
        assert len(store.read_many(KEYS)) == len(KEYS)


def test_a_name_in_the_index_leads_nowhere_else(filled: Store, tmp_path: Path) -> None:
    precious = tmp_path / "precious.safetensors"
    precious.write_bytes(b"not ours")
    filled.close()
    db = sqlite3.connect(filled.folder / NAME)
    db.execute("UPDATE shard SET name = ?", ("../../precious.safetensors",))
    db.commit()
    db.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheNotice)
        store = Store(filled.folder)
        store.read_many(KEYS)
        store.trim(budget=0)
    assert precious.read_bytes() == b"not ours"


@pytest.mark.parametrize("cut", [1, 100, 500, 2000])
def test_a_file_that_is_cut_is_a_miss_even_while_it_is_open(filled: Store, cut: int) -> None:
    assert filled.read(KEYS[0]) is not None
    path = shard_of(filled)
    os.truncate(path, max(0, path.stat().st_size - cut))
    with pytest.warns(CacheNotice, match="dropped a damaged block"):
        assert filled.read(KEYS[5]) is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheNotice)
        stored = filled.read_many(KEYS)
    assert len(stored) == max(0, 6 - -(-cut // 48))  # what lies before the cut is still good: blocks of 48 bytes
    assert all(torch.equal(x, rows()[KEYS.index(key)]) for key, x in stored.items())


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_index_gives_no_wrong_number_and_is_built_anew(filled: Store, seed: int) -> None:
    more = [digest("more", i) for i in range(400)]
    assert filled.put("result", {"z": (more, torch.arange(400.0)[:, None])})
    filled.close()
    path, draw = filled.folder / NAME, random.Random(seed)
    data = bytearray(path.read_bytes())
    for _ in range(20):
        data[draw.randrange(100, len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    expected = dict(zip([*KEYS, *more], [*rows(), *torch.arange(400.0)[:, None]], strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheNotice)
        for _ in range(3):  # what cannot be used is noticed, set aside at the next opening, and built anew
            store = Store(filled.folder)
            stored = store.read_many(list(expected))
            for key in expected:
                x = store.read(key)
                if x is not None:
                    stored[key] = x
            assert all(torch.equal(x, expected[key]) for key, x in stored.items())
            store.put("activation", {"z": ([digest("new", seed)], rows()[:1])})
            store.close()


def test_one_damaged_block_is_lost_alone(filled: Store) -> None:
    place = filled.index.find([KEYS[2]])[KEYS[2]]
    data = bytearray(shard_of(filled).read_bytes())
    data[place.start] ^= 1
    shard_of(filled).write_bytes(data)
    with pytest.warns(CacheNotice, match="dropped a damaged block"):
        stored = filled.read_many(KEYS)
    assert set(stored) == set(KEYS) - {KEYS[2]}
    assert filled.verify()[:2] == (5, 0)
    for ending in ("", "-wal", "-shm"):
        (filled.folder / f"{NAME}{ending}").unlink(missing_ok=True)
    with pytest.warns(CacheNotice, match="checked and added"):
        store = Store(filled.folder)
    assert set(store.read_many(KEYS)) == set(KEYS) - {KEYS[2]}


def test_a_wrong_row_of_the_index_is_corrected_from_the_shard(filled: Store) -> None:
    right = filled.index.find([KEYS[2]])[KEYS[2]]
    for wrong in ({"start": right.start + 48}, {"shape": (4, 3)}, {"dtype": "int32"}, {"dtype": "nonsense"}):
        filled.index.replace(dataclasses.replace(right, **wrong))
        stored = filled.read(KEYS[2])
        assert stored is not None and torch.equal(stored, rows()[2])
        assert filled.index.find([KEYS[2]])[KEYS[2]] == right


def test_an_index_that_is_gone_is_built_anew(filled: Store) -> None:
    filled.close()
    for path in filled.folder.glob(f"{NAME}*"):
        path.unlink()
    with pytest.warns(CacheNotice, match="1 shards that were missing from the index were checked and added"):
        store = Store(filled.folder)
    stored = store.read(KEYS[2])
    assert stored is not None and torch.equal(stored, rows()[2])


def test_an_index_of_rubbish_is_set_aside_and_built_anew(filled: Store) -> None:
    filled.close()
    (filled.folder / NAME).write_bytes(b"rubbish" * 1000)
    with pytest.warns(CacheNotice, match=r"set aside as index.sqlite.damaged"):
        store = Store(filled.folder)
    assert len(store.read_many(KEYS)) == len(KEYS)


def test_a_newer_index_is_left_alone(filled: Store) -> None:
    filled.close()
    db = sqlite3.connect(filled.folder / NAME)
    db.execute("PRAGMA user_version=99")
    db.commit()
    db.close()
    before = (filled.folder / NAME).read_bytes()
    with pytest.raises(Unusable, match="version 99, this one knows"):
        Store(filled.folder)
    assert (filled.folder / NAME).read_bytes() == before


def test_what_a_dead_writer_left_is_removed_and_a_living_ones_is_not(filled: Store) -> None:
    import fcntl

    dead, living = filled.shards / "a.safetensors.partial", filled.shards / "b.safetensors.partial"
    dead.write_bytes(b"half")
    with living.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.warns(CacheNotice, match="1 unfinished files of processes that have ended were removed"):
            Store(filled.folder)
        assert not dead.exists() and living.exists()


def test_a_shard_from_elsewhere_is_not_believed(filled: Store) -> None:
    (filled.shards / "evil.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    filled.close()
    with pytest.warns(CacheNotice, match="evil.safetensors is damaged and was set aside"):
        store = Store(filled.folder)
    assert len(store.read_many(KEYS)) == len(KEYS)


def test_kill_9_at_any_moment_loses_nothing_that_was_promised() -> None:
    """The long form is ``make faults``."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.kill", "--rounds", "20"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "20 kills" in done.stdout and "all right" in done.stdout


def test_headers_are_checked_before_anything_is_allocated(tmp_path: Path) -> None:
    from workbench.errors import BadInput

    path = tmp_path / "x.safetensors"
    for data in (b"", b"1234567", (2**63).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]"):
        path.write_bytes(data)
        with pytest.raises(BadInput):
            shards.blocks(path)
