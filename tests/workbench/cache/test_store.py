"""The store: what is put is what is read, and whatever happens to a file is a miss, never a wrong number."""

from __future__ import annotations

import dataclasses
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.cache import CacheNotice, Store, Unusable
from workbench.cache import shard as shards
from workbench.cache.index import NAME
from workbench.cache.keys import digest
from workbench.registry import ROOT

KEYS = [digest("test", i) for i in range(6)]


def rows(seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.fixture
def filled(tmp_path: Path) -> Store:
    store = Store(tmp_path / "cache")
    assert store.put("activation", {"z": (KEYS, rows())})
    return store


def shard_of(store: Store) -> Path:
    (path,) = store.shards.glob("*.safetensors")
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.uint8])
def test_every_dtype_comes_back_bit_for_bit_in_another_opening(tmp_path: Path, dtype: torch.dtype) -> None:
    wanted = rows(dtype=dtype)
    store = Store(tmp_path)
    assert store.put("activation", {"z": (KEYS, wanted), "law": ([digest("law")], wanted[:1])})
    store.close()
    found = Store(tmp_path).read_many([*KEYS, digest("law"), digest("nobody")])
    assert len(found) == 7
    assert all(torch.equal(found[key], row) for key, row in zip(KEYS, wanted, strict=True))
    assert torch.equal(found[digest("law")], wanted[0])


def test_what_is_read_is_ones_own(filled: Store) -> None:
    filled.read(KEYS[0]).zero_()  # pyright: ignore[reportOptionalMemberAccess] - stored above
    again = filled.read(KEYS[0])
    assert again is not None and torch.equal(again, rows()[0])


def test_a_key_keeps_its_first_value(filled: Store) -> None:
    assert filled.put("activation", {"z": (KEYS, rows(1))})
    found = filled.read(KEYS[3])
    assert found is not None and torch.equal(found, rows()[3])
    assert len(list(filled.shards.iterdir())) == 1  # and the second file is gone


def test_a_file_that_another_opening_removed_was_here_already(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the rename and the entry another process may open the cache, find nothing new in the file, and remove
    it."""
    real = shards.write

    def write(folder: Path, *arguments: Any) -> Any:
        name, blocks = real(folder, *arguments)
        Store(filled.folder).close()
        assert not (folder / name).exists()
        return name, blocks

    monkeypatch.setattr(shards, "write", write)
    assert filled.put("activation", {"z": (KEYS, rows())}) and filled.writable
    assert len(filled.read_many(KEYS)) == len(KEYS)


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
            found = opened.read_many(keys)
            assert all(torch.equal(x, rows[keys.index(key)]) for key, x in found.items())
            opened.close()
        healed = Store.sound(folder)
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
        found = store.read_many(KEYS)
        assert all(torch.equal(x, rows()[KEYS.index(key)]) for key, x in found.items())
        assert len(found) == (5 if at >= len(data) - 6 * 48 else 6)  # the header is not needed while there is an index
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
    with pytest.warns(CacheNotice, match="left out a damaged block"):
        assert filled.read(KEYS[5]) is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheNotice)
        found = filled.read_many(KEYS)
    assert len(found) == max(0, 6 - -(-cut // 48))  # what lies before the cut is still good: blocks of 48 bytes
    assert all(torch.equal(x, rows()[KEYS.index(key)]) for key, x in found.items())


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
    wanted = dict(zip([*KEYS, *more], [*rows(), *torch.arange(400.0)[:, None]], strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheNotice)
        for _ in range(3):  # what cannot be used is noticed, set aside at the next opening, and built anew
            store = Store(filled.folder)
            found = store.read_many(list(wanted))
            for key in wanted:
                x = store.read(key)
                if x is not None:
                    found[key] = x
            assert all(torch.equal(x, wanted[key]) for key, x in found.items())
            store.put("activation", {"z": ([digest("new", seed)], rows()[:1])})
            store.close()


def test_one_damaged_block_is_lost_alone(filled: Store) -> None:
    place = filled.index.find([KEYS[2]])[KEYS[2]]
    data = bytearray(shard_of(filled).read_bytes())
    data[place.start] ^= 1
    shard_of(filled).write_bytes(data)
    with pytest.warns(CacheNotice, match="left out a damaged block"):
        found = filled.read_many(KEYS)
    assert set(found) == set(KEYS) - {KEYS[2]}
    assert filled.verify()[:2] == (5, 0)
    for ending in ("", "-wal", "-shm"):
        (filled.folder / f"{NAME}{ending}").unlink(missing_ok=True)
    with pytest.warns(CacheNotice, match="entered"):
        store = Store(filled.folder)
    assert set(store.read_many(KEYS)) == set(KEYS) - {KEYS[2]}


def test_a_wrong_row_of_the_index_is_corrected_from_the_shard(filled: Store) -> None:
    right = filled.index.find([KEYS[2]])[KEYS[2]]
    for wrong in ({"start": right.start + 48}, {"shape": (4, 3)}, {"dtype": "int32"}, {"dtype": "nonsense"}):
        filled.index.replace(dataclasses.replace(right, **wrong))
        found = filled.read(KEYS[2])
        assert found is not None and torch.equal(found, rows()[2])
        assert filled.index.find([KEYS[2]])[KEYS[2]] == right


def test_a_shard_that_is_evicted_under_a_reader_is_a_miss(filled: Store) -> None:
    other = Store(filled.folder)
    assert other.trim(budget=0) > 0
    assert filled.read(KEYS[0]) is None


def test_an_index_that_is_gone_is_built_anew(filled: Store) -> None:
    filled.close()
    for path in filled.folder.glob(f"{NAME}*"):
        path.unlink()
    with pytest.warns(CacheNotice, match="1 shards that no index knew were checked and entered"):
        store = Store(filled.folder)
    found = store.read(KEYS[2])
    assert found is not None and torch.equal(found, rows()[2])


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
        with pytest.warns(CacheNotice, match="1 unfinished files of dead processes were removed"):
            Store(filled.folder)
        assert not dead.exists() and living.exists()


def test_a_shard_from_elsewhere_is_not_believed(filled: Store) -> None:
    (filled.shards / "evil.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    filled.close()
    with pytest.warns(CacheNotice, match="evil.safetensors is damaged and was set aside"):
        store = Store(filled.folder)
    assert len(store.read_many(KEYS)) == len(KEYS)


def test_least_recently_used_activations_go_first_and_results_last(tmp_path: Path) -> None:
    store = Store(tmp_path)
    sets = {name: [digest(name, i) for i in range(6)] for name in ("result", "old", "new", "pinned")}
    for name, keys in sets.items():
        store.run = "an unfinished run" if name == "pinned" else None
        assert store.put("result" if name == "result" else "activation", {"z": (keys, rows())})
    store.run = None
    size = store.index.size() // 4
    assert store.read(sets["old"][0]) is not None  # now "new" is the least recently used
    store.trim(budget=3 * size + size // 2)
    there = {name for name, keys in sets.items() if store.read(keys[0]) is not None}
    assert there == {"result", "old", "pinned"}
    store.trim(budget=size + size // 2)
    assert {name for name, keys in sets.items() if store.read(keys[0]) is not None} == {"pinned"}
    store.index.unpin("an unfinished run")
    assert store.index.pinned() == {}


def test_the_clock_may_jump(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for now in (0.0, 4e9, -1.0):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        assert filled.read(KEYS[0]) is not None
        filled.flush()
        assert filled.trim() == 0


def test_a_read_only_folder_is_read_and_not_written(filled: Store) -> None:
    filled.close()
    store = Store(filled.folder, readonly=True)
    assert len(store.read_many(KEYS)) == len(KEYS)
    assert not store.put("activation", {"z": ([digest("more")], rows()[:1])})
    script = (
        "import os, sys; from workbench.cache import Store\n"
        "os.setuid(65534) if os.getuid() == 0 else None\n"
        "store = Store(sys.argv[1]); assert store.readonly and not store.writable\n"
        "print(len(store.read_many([bytes.fromhex(k) for k in sys.argv[2:]])))"
    )
    filled.folder.parent.chmod(0o755)
    open_up = [filled.folder, *filled.folder.rglob("*")]
    for path in open_up:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for parent in filled.folder.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, str(filled.folder), *(k.hex() for k in KEYS)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
    finally:
        for path in reversed(open_up):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert done.stdout.strip() == str(len(KEYS)), done.stderr


def test_on_a_full_disk_one_warning_is_given_and_nothing_is_left_behind(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the write itself fails, half-way."""
    store = Store(tmp_path)
    assert store.put("activation", {"z": (KEYS, rows())})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.warns(CacheNotice, match="nothing more is kept") as caught:
            assert not store.put("activation", {"z": ([digest("large")], torch.zeros(1, 200_000))})
            assert not store.put("activation", {"z": ([digest("small")], torch.zeros(1, 2))})
        assert len(caught) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(store.read_many(KEYS)) == len(KEYS)
    assert len(list(store.shards.iterdir())) == 1
    assert Store(tmp_path).put("activation", {"z": ([digest("large")], torch.zeros(1, 200_000))})


def test_a_copy_of_a_folder_is_a_cache(filled: Store, tmp_path: Path) -> None:
    filled.close()
    shutil.copytree(filled.folder, tmp_path / "copy")
    assert len(Store(tmp_path / "copy").read_many(KEYS)) == len(KEYS)


def test_two_writers_of_the_same_and_of_different_keys() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.writers"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "all right" in done.stdout


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
