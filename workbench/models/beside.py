"""Calls in another thread, in order, while the model runs on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from threadpoolctl import threadpool_limits

#: Calls that wait at most, so that what they are given does not pile up.
WAITING = 2


@contextmanager
def beside() -> Iterator[Callable[..., None]]:
    """A function that has ``function(*arguments)`` called in another thread, one call after the other; at the end of
    the block all are done. That thread computes alone: what is done in small steps would wait at each for a second one,
    which the model has use for.

    Raises:
        Exception: what a call raised, at a later call or at the end of the block.
    """
    calls: deque[Future[object]] = deque()

    def call(function: Callable[..., object], *arguments: Any) -> None:
        while len(calls) > WAITING or (calls and calls[0].done()):
            calls.popleft().result()
        calls.append(pool.submit(function, *arguments))

    with ThreadPoolExecutor(1, initializer=_one_thread) as pool:
        try:
            yield call
        except BaseException:
            for waiting in calls:
                waiting.cancel()
            raise
        for each in calls:
            each.result()


def _one_thread() -> None:
    torch.get_num_threads()  # PyTorch sets a thread's number of threads when that is first needed
    threadpool_limits(1, user_api="openmp")  # of this thread alone, for as long as it lives
