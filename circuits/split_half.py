"""What a task's circuit shares with itself: the stages found anew on two random halves of its prompts.

No overlap with another task should be expected above it. Each half chooses its receivers itself, so this holds the
instability of the whole search, where the bootstrap of `circuits.overlap` is conditional on the receivers found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core import Head
from workbench.inputs.paired import PairedInputs
from workbench.results.sweep import Sweep

from . import overlap
from .stages import Stages, Step, patched, search

#: Two prompts a half are the fewest that can be compared.
FEWEST = 4


@dataclass(frozen=True)
class Halves:
    """The stages of two halves of a task's prompts; `examples` are the indices of each half's."""

    one: Stages
    two: Stages
    examples: tuple[list[int], list[int]]

    @property
    def n(self) -> int:
        """Prompts in each half."""
        return len(self.examples[0])

    def jaccard(self, percent: float) -> float:
        """The Jaccard index of the two circuits, each the union of its stages' top `percent` %."""
        circuits = [
            frozenset(head for array in half.scores.values() for head in overlap.top_heads(array, percent))
            for half in (self.one, self.two)
        ]
        return overlap.jaccard(*circuits)


def split_halves(
    model: Any,
    inputs: PairedInputs,
    positions: Mapping[str, str],
    percent: float,
    whole: Stages,
    seed: int = 0,
    progress: Callable[[str, int], object] = lambda stage, examples: None,
) -> Halves | None:
    """The stages of two random halves; None below four prompts.

    A stage whose receivers are those of the `whole` sample is not run again: its examples are taken from there.

    Args:
        positions, percent: as in `circuits.stages.run_stages`, which found `whole` on the same inputs.
        seed: of the split; of an odd number of prompts one is left out.
        progress: called with the stage's name and how many examples of it are finished, over both halves.
    """
    if len(inputs) < FEWEST:
        return None
    size = len(inputs) // 2
    order = np.random.default_rng(seed).permutation(len(inputs)).tolist()

    examples = (sorted(order[:size]), sorted(order[size : 2 * size]))

    def half(of: int) -> Stages:
        part = inputs.of(examples[of])

        def patch(step: Step, receivers: tuple[Head, ...] | None) -> Sweep:
            known = whole.done.get(step.name)
            if known is not None and known.receivers == receivers:
                return known.sweep.of(examples[of])

            def tell(finished: int, *_: object) -> None:
                progress(step.name, of * size + finished)

            return patched(model, part, step, receivers, positions[step.name], tell)

        return search(whole.task, positions, percent, patch)

    return Halves(half(0), half(1), examples)
