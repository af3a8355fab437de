"""The store: what is put is what is read, by one process or several, until it is evicted."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.workbench.cache.stores import KEYS, rows
from workbench.cache import CacheNotice, Store
from workbench.cache import shard as shards
from workbench.cache.keys import digest
from workbench.registry import ROOT


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.uint8])
def test_every_dtype_comes_back_bit_for_bit_in_another_opening(tmp_path: Path, dtype: torch.dtype) -> None:
    expected = rows(dtype=dtype)
    store = Store(tmp_path)
    assert store.put("activation", {"z": (KEYS, expected), "law": ([digest("law")], expected[:1])})
    store.close()
    stored = Store(tmp_path).read_many([*KEYS, digest("law"), digest("nobody")])
    assert len(stored) == 7
    assert all(torch.equal(stored[key], row) for key, row in zip(KEYS, expected, strict=True))
    assert torch.equal(stored[digest("law")], expected[0])


def test_what_is_read_is_ones_own(filled: Store) -> None:
    filled.read(KEYS[0]).zero_()  # pyright: ignore[reportOptionalMemberAccess] - stored above
    again = filled.read(KEYS[0])
    assert again is not None and torch.equal(again, rows()[0])


def test_a_key_keeps_its_first_value(filled: Store) -> None:
    assert filled.put("activation", {"z": (KEYS, rows(1))})
    stored = filled.read(KEYS[3])
    assert stored is not None and torch.equal(stored, rows()[3])
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


def test_a_shard_that_is_evicted_under_a_reader_is_a_miss(filled: Store) -> None:
    other = Store(filled.folder)
    assert other.trim(budget=0) > 0
    assert filled.read(KEYS[0]) is None


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
    present = {name for name, keys in sets.items() if store.read(keys[0]) is not None}
    assert present == {"result", "old", "pinned"}
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
        with pytest.warns(CacheNotice, match="nothing more is stored") as caught:
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
