"""Measured memory and time, against sizes and clocks that are known."""

from __future__ import annotations

import itertools
import time

import pytest
import torch

from workbench.attention.cost.measure import Measured, measure, measure_call, peak_bytes
from workbench.attention.cost.report import report
from workbench.errors import UnknownName, UsageError

MATRIX = 256 * 256 * 4


def test_a_tensor_of_known_size_is_seen():
    assert peak_bytes(lambda: torch.empty(1000, dtype=torch.float64)) == 8000
    assert peak_bytes(lambda: None) == 0


def test_the_peak_is_what_is_held_at_once():
    def one_after_the_other() -> None:
        for _ in range(5):
            torch.empty(1000)

    def together() -> list[torch.Tensor]:
        return [torch.empty(1000) for _ in range(5)]

    assert peak_bytes(one_after_the_other) == 4000
    assert peak_bytes(together) == 20_000


def test_what_was_held_before_is_not_counted_and_its_release_makes_no_room():
    held = [torch.ones(100_000)]
    assert peak_bytes(lambda: held[0].sum()) == 4
    assert peak_bytes(lambda: (held.clear(), torch.empty(50_000))) == 200_000


def test_memory_inside_of_an_operation_is_seen():
    """The output of logsumexp is a row, and what it adds up a matrix."""
    x = torch.ones(256, 256)
    assert MATRIX <= peak_bytes(lambda: torch.logsumexp(x, 0)) < 2 * MATRIX
    assert peak_bytes(lambda: x.sum(0)) == MATRIX // 256


def explicit(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.softmax(q @ k.mT, -1) @ v


def test_the_explicit_form_holds_scores_and_weights_and_the_kernel_neither():
    assert measure(explicit, 256, n_heads=2, d_head=8, batch=3).peak_bytes == 2 * 6 * MATRIX
    kernel = measure(torch.nn.functional.scaled_dot_product_attention, 256, n_heads=2, d_head=8, batch=3)
    assert 6 * 256 * 8 * 4 <= kernel.peak_bytes < 6 * MATRIX


def test_the_function_gets_the_shapes_that_were_named_without_gradients_on_one_thread():
    calls = []

    def f(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        calls.append((q.shape, k.shape, v.shape, q.dtype, torch.is_grad_enabled(), torch.get_num_threads(), q.sum()))
        return v

    threads = torch.get_num_threads()
    measure(f, 7, n_heads=2, d_head=4, d_value=3, batch=5, repeats=2, dtype=torch.bfloat16)
    assert torch.get_num_threads() == threads
    assert len(calls) == 4
    assert calls[0][:6] == ((5, 2, 7, 4), (5, 2, 7, 4), (5, 2, 7, 3), torch.bfloat16, False, 1)
    assert len({float(call[6]) for call in calls}) == 1


def test_the_time_is_the_median_of_the_threads_clock(monkeypatch):
    ticks = itertools.chain.from_iterable((start, start + took) for start, took in ((10, 5), (20, 1), (30, 2)))
    monkeypatch.setattr(time, "thread_time", lambda: float(next(ticks)))
    assert measure_call(lambda: None, repeats=3) == Measured(2.0, 0, (5.0, 1.0, 2.0))


def test_threads_are_put_back_after_a_failure():
    threads = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        measure_call(lambda: 1 / 0)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"length": 0}, "length=0"),
        ({"length": 4, "repeats": 0}, "repeats=0"),
        ({"length": 4, "dtype": torch.int32}, "dtype=torch.int32: expected a floating-point type"),
        ({"f": 3, "length": 4}, "f=3: expected a function"),
    ],
)
def test_what_cannot_be_measured_is_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        measure(**{"f": explicit, **wrong})


# --- the report


def test_the_report_has_a_row_for_each_length():
    rows = report("mine", "softmax", [64, 128], n_heads=2, n_kv_heads=1, d_head=8)
    assert [row["length"] for row in rows] == [64, 128]
    assert rows[0] == {
        "operator": "mine",
        "form": "softmax",
        "length": 64,
        "passes": 1,
        "passes_to_select": 0,
        "passes_as_written": 3,
        "passes_over_queries": 1,
        "pairs": 64 * 65 // 2,
        "flops": 2 * (64 * 65 // 2) * 16 * 2,
        "exponentials": 64 * 65,
        "bytes_moved": 2 * 4 * (64 * 16 + 33 * 16),  # a tile of 64 queries, of which each sees 32.5 keys
        "bytes_spilled": 0,
        "state_bytes": 4 * 64 * 16,
    }


def test_the_report_takes_pairs_as_a_function_of_the_length_and_measures():
    (row,) = report("band", "softmax", 32, pairs=lambda n: 4 * n, run=explicit, d_head=8, repeats=1)
    assert row["pairs"] == 128
    assert row["peak_bytes"] == 2 * 32 * 32 * 4
    assert row["seconds"] >= 0


def test_the_definition_spills_its_weights_where_it_has_some():
    spilled = {
        name: report("x", name, 4096, buffer=128 << 10, bytes_each=2)[0]["bytes_spilled"] >> 20
        for name in ("softmax", "linear", "reversed softmax", "query-free", "decayed linear")
    }
    assert spilled == {"softmax": 128, "linear": 64, "reversed softmax": 128, "query-free": 0, "decayed linear": 0}


def test_the_report_refuses_what_it_does_not_know():
    with pytest.raises(UnknownName, match="form='soft'"):
        report("x", "soft", 8)
    with pytest.raises(UsageError, match="length=-3"):
        report("x", "softmax", [8, -3])
