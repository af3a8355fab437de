"""The measuring loop of `sweep`, `path_patch` and `sweep_sets`: batches in, one number for each example and edit out.

A batch that the result cache holds is read; any other is computed and stored. Both fill the same arrays, so a caller
cannot tell them apart, except that progress jumps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from workbench.cache.result_cache import ResultCache
from workbench.inputs.paired import Group, PairedInputs
from workbench.patching.batches import BATCH_SIZE
from workbench.patching.progress import ProgressCounter


@dataclass(frozen=True)
class Measurement:
    """The metric of some examples, before and after each of some edits.

    Attributes:
        base: of the unedited run.
        source: of the run that patched values come from; NaN for other edits.
        edited: after each edit.
        skipped: how many edits (each of one example) cannot change anything and were not run.
    """

    base: Float[np.ndarray, "example"]
    source: Float[np.ndarray, "example"]
    edited: Float[np.ndarray, "example edit"]
    skipped: float

    def to_array(self) -> Float[np.ndarray, "example column"]:
        """As one array for the cache: a row an example; its share of `skipped` is the third column."""
        skipped = np.full(len(self.base), self.skipped / len(self.base))
        return np.column_stack([self.base, self.source, skipped, self.edited])

    @classmethod
    def from_array(cls, array: Float[np.ndarray, "example column"]) -> Measurement:
        """What `to_array` wrote."""
        return cls(array[:, 0], array[:, 1], array[:, 3:], float(array[:, 2].sum()))


def measure(
    inputs: PairedInputs,
    n_edits: int,
    compute: Callable[[Group], Measurement],
    *,
    causal: bool,
    results: ResultCache,
    progress: ProgressCounter,
    steps_per_example: int,
) -> Measurement:
    """`compute` every batch that the result cache lacks; all batches together, in the order of `inputs`.

    `compute` reports to `progress` itself; a batch that was read counts as `steps_per_example` steps an example.

    Args:
        causal: whether the model is: its batches have one first difference.
    """
    n = len(inputs)
    base, source, edited, skipped = np.empty(n), np.empty(n), np.empty((n, n_edits)), np.empty(n)

    def fill(batch: Group, array: np.ndarray, cached: bool) -> None:
        rows, part = list(batch.members), Measurement.from_array(array)
        base[rows], source[rows], edited[rows], skipped[rows] = part.base, part.source, part.edited, array[:, 2]
        if cached:
            progress(steps_per_example * len(rows))

    results.for_each(inputs.groups(BATCH_SIZE, causal), inputs, lambda batch: compute(batch).to_array(), fill)
    return Measurement(base, source, edited, round(skipped.sum()))
