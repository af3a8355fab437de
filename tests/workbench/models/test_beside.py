"""Calls beside the model: in order, alone on their processor, and with their errors."""

from __future__ import annotations

import threading

import pytest
import torch

from workbench.models.beside import beside


def test_calls_are_in_order_in_one_other_thread_and_done_at_the_end() -> None:
    seen: list[tuple[int, int]] = []
    with beside() as call:
        for i in range(20):
            call(lambda i=i: seen.append((i, threading.get_ident())))
    assert [i for i, _ in seen] == list(range(20))
    assert len({thread for _, thread in seen}) == 1 and seen[0][1] != threading.get_ident()


def test_it_computes_with_one_thread_and_changes_no_other() -> None:
    inside: list[int] = []
    new: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with beside() as call:
            call(lambda: inside.append(torch.get_num_threads()))
        thread = threading.Thread(target=lambda: new.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert inside == [1] and new == [torch.get_num_threads()] == [3]
    finally:
        torch.set_num_threads(before)


def test_an_error_is_raised_at_a_later_call_or_at_the_end() -> None:
    with pytest.raises(ZeroDivisionError), beside() as call:
        call(lambda: 1 / 0)
    called: list[int] = []
    with pytest.raises(ZeroDivisionError), beside() as call:
        call(lambda: 1 / 0)
        for i in range(1000):
            call(lambda i=i: called.append(i))
    assert len(called) < 1000


def test_an_error_of_the_block_drops_what_waits() -> None:
    done, runs, start = [], threading.Event(), threading.Event()
    with pytest.raises(KeyError), beside() as call:
        call(lambda: (runs.set(), start.wait(), done.append(0)))
        call(lambda: done.append(1))
        runs.wait()  # a call that has begun is not dropped
        threading.Timer(1, start.set).start()
        raise KeyError
    assert done == [0]
