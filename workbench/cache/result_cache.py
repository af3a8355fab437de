"""Results that were computed once: arrays by a hash of everything that can change a bit of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from workbench.cache.keys import digest, hash_example
from workbench.cache.store import Store
from workbench.cache.work_queue import compute_missing, share_cores
from workbench.inputs.paired import Group, PairedInputs


class ResultCache:
    """The results of one call: read where the cache holds them, or computed and stored.

    Args:
        store: None for no cache.
        identity: of the model (`workbench.models.identity`); None caches nothing.
        arguments: whatever else changes a value (tensors, bytes, or JSON-able).
    """

    def __init__(self, store: Store | None, identity: bytes | None, *arguments: Any) -> None:
        self._store = store if identity is not None else None
        self._key = b"" if self._store is None else digest(identity, *arguments)

    def arrays(self, names: Iterable[str], compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """All of some named arrays, or what `compute` gives."""
        if self._store is None:
            return compute()
        keys = {name: digest(self._key, name) for name in names}
        cached = self._store.read_many(list(keys.values()))
        if len(cached) == len(keys):
            return {name: cached[key].numpy() for name, key in keys.items()}
        arrays = compute()
        self._store.put("result", {name: ([key], torch.from_numpy(arrays[name])[None]) for name, key in keys.items()})
        return arrays

    def for_each(
        self,
        batches: Sequence[Group],
        inputs: PairedInputs,
        compute: Callable[[Group], np.ndarray],
        use: Callable[[Group, np.ndarray, bool], object],
    ) -> None:
        """Hand `use` an array for each batch of `inputs`, and whether it was in the cache.

        Processes that share the cache compute different batches.
        """
        store, threads = self._store, torch.get_num_threads()

        def key(batch: Group) -> bytes:
            return digest(self._key, *(hash_example(inputs, i) for i in batch.members))

        def read(batch: Group) -> bool:
            array = None if store is None else store.read(key(batch))
            if array is not None:
                use(batch, array.numpy(), True)
            return array is not None

        def make(batch: Group, release: Callable[[], None]) -> None:
            if store is not None:
                share_cores(store, threads)
            array = compute(batch)
            if store is not None:
                store.put("result", {"values": ([key(batch)], torch.from_numpy(array)[None])})
            release()
            use(batch, array, False)

        compute_missing(store, batches, key, read, make)
