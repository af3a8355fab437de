"""Work that several processes may share: each item is computed once, and no process waits while there is more to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

from workbench.cache.locks import Locks
from workbench.cache.store import Store

Item = TypeVar("Item")


def compute_missing(
    store: Store | None,
    items: Sequence[Item],
    key: Callable[[Item], bytes],
    load: Callable[[Item], bool],
    compute: Callable[[Item, Callable[[], None]], None],
) -> None:
    """Load or compute every item: load what is stored, compute what no other process computes, wait for the rest.

    Args:
        key: names an item for its lock.
        load: reads an item from the store; False where it is not stored.
        compute: computes an item and stores it; it calls its second argument once the item is in the store, or is not
            to be stored.
    """
    if store is None or store.locks is None:
        for item in items:
            hit = load(item)
            if not hit:
                compute(item, lambda: None)
            if store is not None:
                store.count(hit)
        return
    locks, waiting = store.locks, list(items)
    with sharing_cores(store):
        while waiting:
            busy: list[Item] = []
            for item in waiting:
                if load(item):
                    store.count(True)
                    continue
                lock = key(item)
                if not locks.take(lock):
                    busy.append(item)
                    continue
                release = _Release(locks, lock)
                try:
                    hit = load(item)  # another process may have finished it just before
                    if hit:
                        release()
                    else:
                        compute(item, release)
                    store.count(hit)
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
    """Adjust to how many processes are at work now; called between items."""
    if store.locks is not None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, min(threads, cores // store.locks.workers())))
