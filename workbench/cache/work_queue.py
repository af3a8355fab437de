"""Work in units that several processes may share: each unit is computed once, and nobody waits while there is more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

from workbench.cache.locks import Locks
from workbench.cache.store import Store

Unit = TypeVar("Unit")


def work_through(
    store: Store | None,
    units: Sequence[Unit],
    key: Callable[[Unit], bytes],
    have: Callable[[Unit], bool],
    make: Callable[[Unit, Callable[[], None]], None],
) -> None:
    """Have every unit: take what is there, compute what nobody computes, then wait for what others computed.

    Args:
        key: names a unit for its lock.
        have: takes a unit from the store, if it is there.
        make: computes a unit and keeps it; it calls its second argument once the unit is in the store, or is not to
            be kept.
    """
    if store is None or store.locks is None:
        for unit in units:
            found = have(unit)
            if not found:
                make(unit, lambda: None)
            if store is not None:
                store.count(found)
        return
    locks, waiting = store.locks, list(units)
    with sharing_cores(store):
        while waiting:
            busy: list[Unit] = []
            for unit in waiting:
                if have(unit):
                    store.count(True)
                    continue
                lock = key(unit)
                if not locks.take(lock):
                    busy.append(unit)
                    continue
                release = _Release(locks, lock)
                try:
                    found = have(unit)  # somebody may have finished it just before
                    if found:
                        release()
                    else:
                        make(unit, release)
                    store.count(found)
                except BaseException:
                    release()
                    raise
            if len(busy) == len(waiting):
                locks.wait(key(busy[0]))
            waiting = busy


class _Release:
    """Gives a lock back, once."""

    def __init__(self, locks: Locks, key: bytes) -> None:
        self._locks, self._key, self._held = locks, key, True

    def __call__(self) -> None:
        if self._held:
            self._held = False
            self._locks.release(self._key)


@contextmanager
def sharing_cores(store: Store) -> Iterator[None]:
    """Compute with this process's share of the cores: as many threads as before, divided by the processes at work."""
    locks = store.locks
    if locks is None:
        yield
        return
    threads = torch.get_num_threads()
    locks.start_work()
    try:
        yield
    finally:
        locks.end_work()
        torch.set_num_threads(threads)


def share_cores(store: Store, threads: int) -> None:
    """Adjust to how many processes are at work now; called between units."""
    if store.locks is not None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, min(threads, cores // store.locks.workers())))
