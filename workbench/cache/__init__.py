"""The shared activation cache: content-addressed blocks on the user's disk, for all analyses and processes.

Public: `store_of` (what a call's ``cache=`` means) and `off`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench import arguments
from workbench.cache import folder as folders
from workbench.cache.folder import off as off
from workbench.cache.keys import digest
from workbench.cache.store import CacheNotice as CacheNotice
from workbench.cache.store import Store as Store
from workbench.cache.store import Unusable as Unusable
from workbench.errors import BadInput, NotAvailable

#: Open stores of this process, by folder; a forked child opens its own.
_OPEN: dict[tuple[int, Path], Store | None] = {}


def store_of(cache: Any) -> Store | None:
    """The store that a call's ``cache=`` means: None for the user's own, unless switched off; False for none; a folder.

    A default folder that cannot be used is left alone with one warning.

    Raises:
        UsageError: `cache` is something else.
        BadInput: the folder named cannot be a cache.
    """
    if cache is False or (cache is None and folders.switched_off()):
        return None
    if isinstance(cache, Store):
        return cache
    folders.budget(Path.home(), 0)  # a budget that is no number is refused before any work
    what = "a folder, False for no cache, or None for the user's own"
    path = folders.default() if cache is None else arguments.file_path("cache", cache, what).expanduser()
    key = (os.getpid(), path.absolute())
    if key not in _OPEN or (_OPEN[key] is None and cache is not None):
        try:
            _OPEN[key] = Store(path)
        except Unusable as error:
            if cache is not None:
                raise BadInput(f"cache={str(cache)!r} cannot be used: {error}.") from None
            warnings.warn(f"Nothing is cached: {path} cannot be used ({error}).", CacheNotice, stacklevel=3)
            _OPEN[key] = None
    return _OPEN[key]


def users_store() -> Store:
    """The user's own cache, for a command or a page that looks at it; a damaged index is rebuilt.

    Raises:
        NotAvailable: it cannot be used.
    """
    try:
        return Store.open_checked(folders.default())
    except Unusable as error:
        raise NotAvailable(f"The cache {folders.default()} cannot be used: {error}.") from None


@contextmanager
def unfinished(name: str, config: Any) -> Iterator[None]:
    """Within the block, what the user's cache reads and stores is evicted last; after a normal end, like anything else.

    So a finding that was interrupted continues where it stopped, when it is started again with the same configuration.
    """
    store = store_of(None)
    if store is None or not store.writable:
        yield
        return
    outer, run = store.run, f"{name} {digest(name, config).hex()[:12]}"
    store.run = run
    try:
        yield
        store.flush()
        store.index.unpin(run)
    finally:
        store.run = outer
