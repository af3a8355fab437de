"""Recordings, sweeps and path patching over the cache: the same numbers, computed once."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import workbench as wb
from tests.families import FAMILIES, hooked, nudged, paired
from workbench.cache import CacheNotice, Store, off, store_of
from workbench.cache.keys import activation
from workbench.errors import BadInput, UsageError
from workbench.models.language import HookedLM
from workbench.registry import ROOT

TOLERANCE = 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_is_what_is_recorded_without_a_cache(family: str, tmp_path: Path) -> None:
    """Bit for bit, but for patterns, which are made of stored q and k."""
    model, task, sites = HookedLM(nudged(family)), paired(5), ("z", "q", "k", "v", "resid_pre", "resid_post", "pattern")
    plain, patterns = wb.record(model, task, sites[:-1], cache=False), wb.record(model, task, ["pattern"], cache=False)
    wb.record(model, task, sites, cache=tmp_path)
    again = wb.record(model, task, sites, cache=tmp_path)
    assert again.corrupt is not None and plain.corrupt is not None and patterns.corrupt is not None
    for run, *expected in (again.clean, plain.clean, patterns.clean), (again.corrupt, plain.corrupt, patterns.corrupt):
        for site in sites:
            for a, b in zip(run[site], expected[site == "pattern"][site], strict=True):
                assert a.shape == b.shape and a.dtype == b.dtype
                assert float((a - b).abs().max()) <= (TOLERANCE if site == "pattern" else 0)


def test_patterns_are_not_stored(tmp_path: Path) -> None:
    model = hooked("gemma3")
    recorded = wb.record(model, paired(2), ["pattern"], cache=tmp_path)
    store = Store(tmp_path)
    counts = store.index.counts()["activation"]
    # two lengths of one prompt in two runs: q and k of three layers, and the three layers' formulas at each length
    assert counts[1] == 2 * 2 * 3 * 2 + 2 * 3
    assert [tuple(p.shape) for p in recorded.clean["pattern"]] == [(3, 6, 9, 9), (3, 6, 11, 11)]


def test_a_recording_is_computed_once_and_its_parts_are_shared(tmp_path: Path, forwards: list[int]) -> None:
    model, task = hooked("llama"), paired(5)
    del forwards[:]
    wb.record(model, task, ["z", "pattern"], cache=tmp_path)
    assert sum(forwards) == 10
    wb.record(model, task, ["z", "q"], [1], cache=tmp_path)  # q was kept for the pattern
    wb.record(model, task.of([3, 0]), ["pattern"], cache=tmp_path)  # in other company, in another order
    assert sum(forwards) == 10
    wb.record(model, task, ["z", "v"], cache=tmp_path)
    assert sum(forwards) == 20


@pytest.mark.parametrize("edit", ["patch", "zero", "mean", "resample"])
def test_a_sweep_is_computed_once(edit: str, tmp_path: Path, forwards: list[int]) -> None:
    model, task = hooked("llama"), paired(6)
    first = wb.sweep(model, task, edit=edit, cache=tmp_path)
    computed = len(forwards)
    second = wb.sweep(model, task, edit=edit, cache=tmp_path)
    plain = wb.sweep(model, task, edit=edit, cache=False)
    assert computed and len(forwards) > computed  # the plain one computes
    for a, b, c in ((first.values, second.values, plain.values), (first.base, second.base, plain.base)):
        assert np.array_equal(a, b)
        assert np.abs(a - c).max() <= TOLERANCE
    assert second.info == first.info
    del forwards[:]
    wb.sweep(model, task, edit=edit, cache=tmp_path)
    assert forwards == []


def test_a_path_patching_is_computed_once(tmp_path: Path, forwards: list[int]) -> None:
    model, task = hooked("llama"), paired(6)
    first = wb.path_patch(model, task, [wb.Head(2, 1)], cache=tmp_path)
    del forwards[:]
    second = wb.path_patch(model, task, [wb.Head(2, 1)], cache=tmp_path)
    assert forwards == []
    assert np.array_equal(first.values, second.values, equal_nan=True)
    wb.path_patch(model, task, [wb.Head(2, 2)], cache=tmp_path)
    assert forwards


CHANGES = {
    "metric": {"metric": "answer_probability"},
    "direction": {"direction": "noise"},
    "edit": {"edit": "zero"},
    "layers": {"layers": [0, 1]},
    "heads": {"heads": [2]},
    "site": {"site": "q"},
    "by": {"by": ("head", "position")},
    "positions": {"positions": ["end"]},
    "memory": {"memory_gb": 0.5},
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_argument_is_part_of_the_key(change: str, tmp_path: Path, forwards: list[int]) -> None:
    model, task = hooked("llama"), paired(2)
    wb.sweep(model, task, cache=tmp_path)
    del forwards[:]
    wb.sweep(model, task, cache=tmp_path, **CHANGES[change])
    assert forwards


@pytest.mark.parametrize("change", [{"mean_over": "positions"}, {"mean_over": paired(3, seed=5)}])
def test_what_a_mean_is_taken_over_is_part_of_the_key(change: dict, tmp_path: Path) -> None:
    model, task = hooked("llama"), paired(4)
    first = wb.sweep(model, task, edit="mean", cache=tmp_path)
    assert not np.array_equal(first.values, wb.sweep(model, task, edit="mean", cache=tmp_path, **change).values)


def test_functions_are_not_kept(tmp_path: Path, forwards: list[int]) -> None:
    model, task = hooked("llama"), paired(2)
    for _ in range(2):
        del forwards[:]
        wb.sweep(model, task, edit=lambda x: x * 2, cache=tmp_path)
        assert forwards
        del forwards[:]
        wb.sweep(model, task, metric=lambda logits, example: logits[:, 0], cache=tmp_path)
        assert forwards


def test_the_cache_is_chosen_by_argument_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "user"))
    monkeypatch.delenv("WORKBENCH_CACHE", raising=False)
    store = store_of(None)
    assert store is not None and store.folder == tmp_path / "user" / "activations"
    assert store_of(False) is None
    with off():
        assert store_of(None) is None
        assert store_of(tmp_path) is not None
    monkeypatch.setenv("WORKBENCH_CACHE", "off")
    assert store_of(None) is None
    monkeypatch.setenv("WORKBENCH_CACHE", "offf")
    with pytest.raises(UsageError, match="on or off"):
        store_of(None)
    monkeypatch.setenv("WORKBENCH_CACHE", "on")
    with pytest.raises(UsageError, match="cache=3"):
        store_of(3)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be used"):
        store_of(tmp_path / "file")


def test_an_interrupted_sweep_goes_on_and_gives_the_same_bits(tmp_path: Path, forwards: list[int]) -> None:
    model, task = hooked("llama"), paired(20, lengths=(9,))
    whole = wb.sweep(model, task, cache=tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(done: int, total: int, what: str) -> None:
        if done > total / 2:
            raise Stop

    with pytest.raises(Stop):
        wb.sweep(model, task, cache=tmp_path / "stopped", progress=stop)
    del forwards[:]
    resumed = wb.sweep(model, task, cache=tmp_path / "stopped")
    assert 0 < sum(forwards) < 20
    assert np.array_equal(whole.values, resumed.values)
    assert resumed.table().equals(whole.table())


def test_what_was_evicted_since_is_computed_again(tmp_path: Path) -> None:
    model, task = hooked("qwen3"), paired(3)
    recorded, plain = wb.record(model, task, ["z", "pattern"], cache=tmp_path), wb.record(model, task, cache=False)
    Store(tmp_path).trim(budget=0)
    assert torch.equal(recorded.clean["z"][2], plain.clean["z"][2])


def test_a_recording_larger_than_the_budget_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE_GB", "0")
    model, task = hooked("llama"), paired(20, lengths=(9,))
    recorded, plain = wb.record(model, task, ["z", "pattern"], cache=tmp_path), wb.record(model, task, cache=False)
    assert all(torch.equal(a, b) for a, b in zip(recorded.clean["z"], plain.clean["z"], strict=True))
    assert float((recorded.clean["pattern"][7].sum(-1) - 1).abs().max()) < TOLERANCE


def test_a_full_disk_leaves_the_rest_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, task = hooked("llama"), paired(20, lengths=(9,))
    plain, patterns = wb.record(model, task, cache=False), wb.record(model, task, ["pattern"], cache=False)
    store = Store(tmp_path)
    real, puts = store.put, []

    def put(*args, **kwargs):  # the disk is full after the first unit
        puts.append(1)
        store.full = len(puts) > 1
        return real(*args, **kwargs)

    monkeypatch.setattr(store, "put", put)
    recorded = wb.record(model, task, ["z", "pattern"], cache=store)
    for a, b in zip(recorded.clean["z"], plain.clean["z"], strict=True):
        assert torch.equal(a, b)
    for a, b in zip(recorded.clean["pattern"], patterns.clean["pattern"], strict=True):
        assert float((a - b).abs().max()) <= TOLERANCE


WORKER = """
import sys, torch
sys.path.insert(0, ".")
torch.set_num_threads(1)
import workbench as wb
from tests.families import hooked, paired
from workbench.models.resumable_layers import ResumableLayers
model, task = hooked("llama"), paired(160, lengths=(9,))
counted, real = [], ResumableLayers.base_run
def base_run(self, inputs, *args, **kwargs):
    counted.append(len(inputs))
    return real(self, inputs, *args, **kwargs)
ResumableLayers.base_run = base_run
print("ready", flush=True)
sys.stdin.readline()
wb.record(model, task, ["z", "resid_post"], cache=sys.argv[1])
print(sum(counted))
"""


def test_processes_that_record_one_set_share_the_work(tmp_path: Path) -> None:
    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    workers = [start(), start()]
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    counts = [int(worker.communicate()[0]) for worker in workers]
    assert sum(counts) == 320  # every run of every prompt once
    assert all(counts)


def test_one_head_of_one_prompt_touches_its_own_block_only(tmp_path: Path) -> None:
    model, task = hooked("llama"), paired(8, lengths=(9,))
    wb.record(model, task, cache=tmp_path)
    expected = wb.record(model, task, cache=False)
    store = Store(tmp_path)
    recorded = wb.record(model, task, cache=store)
    name = model.hook_name("z", 1)
    identity = model.identity.current()
    assert identity is not None
    (place,) = store.index.find([activation(identity, task.clean[3], name)]).values()
    for path in store.shards.iterdir():
        if path.name == place.shard:  # every other byte of the data is spoilt
            data = bytearray(path.read_bytes())
            start = len(data) - len(data) // 2
            for i in range(start, len(data)):
                if not place.start <= i < place.start + place.size:
                    data[i] ^= 0xFF
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CacheNotice)
                path.write_bytes(data)
    assert torch.equal(recorded.clean[name][3][:, 2], expected.clean[name][3][:, 2])
