"""Bytes moved: the worked example of the reference, and closed forms."""

from __future__ import annotations

import pytest

from workbench.attention.cost.forms import FORMS, form
from workbench.attention.cost.traffic import attention_traffic, bytes_moved
from workbench.attention.cost.workload import Workload
from workbench.errors import UsageError

MIB = 1 << 20


@pytest.mark.parametrize(("passes", "spill"), [(3, 128), (2, 64), (1, 0)])
def test_the_worked_example(passes, spill):
    small = attention_traffic(4096, 4096, 64, 64, passes=passes, bytes_each=2, resident=128, buffer=128 << 10)
    assert (small.base / MIB, small.spill / MIB) == (33, spill)
    large = attention_traffic(4096, 4096, 64, 64, passes=passes, bytes_each=2, resident=128, buffer=2 * MIB)
    assert (large.base / MIB, large.spill, large.recompute) == (33, 0, 0)


def test_recomputing_reads_the_keys_again_for_each_pass():
    three = attention_traffic(4096, 4096, 64, 32, passes=3, bytes_each=2, resident=128, buffer=1)
    keys_once = 2 * 32 * 4096 * 64
    assert three.recompute == 2 * keys_once
    assert three.footprint == 2 * 128 * 4096
    assert three.moved == three.base + three.recompute < three.base + three.spill


def test_what_is_held_is_a_tile_with_one_pass_and_all_keys_with_more():
    sizes = {"bytes_each": 4, "resident": 16}
    assert attention_traffic(50, 3000, 8, 8, passes=1, tile=64, **sizes).footprint == 4 * 16 * 64
    assert attention_traffic(50, 3000, 8, 8, passes=2, tile=64, **sizes).footprint == 4 * 16 * 3000
    assert attention_traffic(5, 20, 8, 8, passes=1, tile=64, **sizes).footprint == 4 * 5 * 20


def test_a_last_tile_of_queries_reads_all_keys_too():
    assert attention_traffic(129, 10, 3, 2, passes=1, bytes_each=1).base == 129 * 5 + 2 * 10 * 5


@pytest.mark.parametrize("wrong", ["n_queries", "n_keys", "passes", "resident", "buffer"])
def test_counts_are_at_least_one(wrong):
    counts = {"n_queries": 8, "n_keys": 8, "passes": 1, "resident": 8, "buffer": 8, wrong: 0}
    with pytest.raises(UsageError, match=f"{wrong}=0: expected a whole number of at least 1"):
        attention_traffic(counts.pop("n_queries"), counts.pop("n_keys"), 8, 8, **counts)


def test_softmax_moves_the_base_traffic():
    work = Workload(length=300, d_head=16, d_value=8, n_heads=3, batch=2, causal=False)
    assert bytes_moved(form("softmax"), work) == 6 * attention_traffic(300, 300, 16, 8, passes=1, bytes_each=4).base


def test_what_is_seen_is_read():
    dense = Workload(length=1024, causal=False)
    quarter = Workload(length=1024, causal=False, pairs=1024**2 // 4)
    once = 4 * 1024 * 128
    assert bytes_moved(form("softmax"), quarter) - once == (bytes_moved(form("softmax"), dense) - once) / 4


def test_a_recurrence_reads_everything_once():
    work = Workload(length=777, d_head=16, d_value=8)
    for name in ("linear", "decayed linear", "delta", "query-free"):
        assert bytes_moved(form(name), work) == 4 * 2 * 777 * 24, name
    for name in ("mean", "position-wise"):
        assert bytes_moved(form(name), work) == 4 * 2 * 777 * 8, name
    work = Workload(length=640, d_head=64, block=64)
    spilled = bytes_moved(form("decayed linear"), work, buffer=64 * 64 * 4 - 1)
    assert spilled - bytes_moved(form("decayed linear"), work, buffer=64 * 64 * 4) == 4 * 2 * 64 * 64 * 10


def test_selecting_reads_all_keys_once_and_their_means_for_every_tile():
    work = Workload(length=1024, d_head=16, block=64, pairs=1024 * 128)
    more = bytes_moved(form("block-selected softmax"), work) - bytes_moved(form("softmax"), work)
    assert more == 4 * 16 * (1024 + 8 * 16)


def test_a_second_pass_over_queries_reads_the_keys_again():
    work = Workload(length=512, d_head=16, causal=False)
    assert bytes_moved(form("reversed softmax"), work) - bytes_moved(form("softmax"), work) == 4 * 4 * 512 * 16


def test_every_form_moves_something_and_more_with_more_heads():
    for name, entry in FORMS.items():
        one, three = (bytes_moved(entry, Workload(length=100, n_heads=n)) for n in (1, 3))
        assert 0 < one == three / 3, name
