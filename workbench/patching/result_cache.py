"""Results kept batch by batch, so that what was finished is not computed again.

The key of a batch holds everything that can change a bit of it: the model's identity, the ids, answers and positions of
the batch's prompts, every argument, and the memory limit, which sets the size of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Num

from workbench.cache import Store
from workbench.cache.keys import digest
from workbench.cache.work_queue import share_cores, work_through
from workbench.inputs.paired import Group, PairedInputs
from workbench.patching.batches import BATCH_SIZE


class Kept:
    """Units of one sweep or path patching: taken from the store, or computed and kept.

    Args:
        identity: of the model, see `workbench.patching.resolve.model_identity`; None keeps nothing.
        arguments: whatever else changes a value (JSON-able, tensors or bytes).
    """

    def __init__(self, store: Store | None, identity: bytes | None, inputs: PairedInputs, *arguments: Any) -> None:
        self.store = store if identity is not None else None
        self.inputs = inputs
        self.common = None if identity is None else digest(identity, BATCH_SIZE, *arguments)

    def each(
        self,
        groups: Sequence[Group],
        compute: Callable[[Group], Float[np.ndarray, "prompt value"]],
        take: Callable[[Group, Num[np.ndarray, "prompt value"], bool], object],
    ) -> None:
        """Have every batch.

        Args:
            compute: gives a batch's values, a row a prompt.
            take: is handed each batch's values, and whether they were computed just now.
        """
        threads = torch.get_num_threads()

        def have(group: Group) -> bool:
            found = None if self.store is None else self.store.read(self._key(group))
            if found is not None:
                take(group, found.numpy(), False)
            return found is not None

        def make(group: Group, release: Callable[[], None]) -> None:
            if self.store is not None:
                share_cores(self.store, threads)
            made = compute(group)
            if self.store is not None:
                self.store.put("result", {"values": ([self._key(group)], torch.from_numpy(made)[None])})
            release()
            take(group, made, True)

        work_through(self.store, groups, self._key, have, make)

    def _key(self, group: Group) -> bytes:
        return digest(self.common or b"", *(_example(self.inputs, i) for i in group.members))


def _example(inputs: PairedInputs, i: int) -> bytes:
    """Everything that the engine knows of one example."""
    return digest(
        inputs.clean[i],
        inputs.corrupt[i],
        inputs.answer[i],
        inputs.wrong[i],
        inputs.options[i],
        dict(inputs.positions[i]),
    )


def hash_inputs(inputs: PairedInputs) -> bytes:
    """A hash of whole inputs, for values that are taken over all of them."""
    return digest(*(_example(inputs, i) for i in range(len(inputs))))
