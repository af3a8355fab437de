"""How inputs are cut into batches of work: from their list alone, so that the same list gives the same bits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

#: At most this many inputs of one length together.
BATCH_SIZE = 8


def batches(inputs: Sequence[Tensor], at_most: int = BATCH_SIZE) -> list[list[int]]:
    """Indices of inputs of one length, `at_most` together."""
    by_length: dict[int, list[int]] = {}
    for i, x in enumerate(inputs):
        by_length.setdefault(len(x), []).append(i)
    return [same[i : i + at_most] for same in by_length.values() for i in range(0, len(same), at_most)]
