"""From readouts to scores: the metric of each row, where rows belong to several examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.patching.cone import EditedRun
from workbench.patching.metric import Example, Metric


class Scorer:
    """A metric of several examples, on a readout of no more entries than any of them needs.

    Attributes:
        tokens: those entries, None for all of them.
    """

    def __init__(self, metric: Metric, examples: Sequence[Example]) -> None:
        self.metric, self.examples = metric, examples
        required = [metric.required_tokens(example) for example in examples]
        union = sorted({token for ids in required for token in ids or ()})
        self.tokens = None if None in required else torch.tensor(union)
        self._columns = [None if ids is None else [union.index(token) for token in ids] for ids in required]

    def __call__(self, k: int, readout: Float[Tensor, "row n"]) -> list[float]:
        """The scores of rows of the k-th example."""
        return self.scores(k, readout).tolist()

    def scores(self, k: int, readout: Float[Tensor, "row n"]) -> Float[Tensor, "row"]:
        """The same as a tensor, through which gradients flow."""
        columns = self._columns[k]
        return self.metric(readout if columns is None else readout[:, columns], self.examples[k])

    def fill(self, scores: list[float], runs: Sequence[EditedRun]) -> Callable[[Sequence[int], Tensor], None]:
        """A reader for `workbench.patching.cone.run_edited` that fills in the score of each of `runs`."""

        def read(order: Sequence[int], readout: Tensor) -> None:
            for k in dict.fromkeys(runs[i].input for i in order):
                of_example = [j for j, i in enumerate(order) if runs[i].input == k]
                for j, score in zip(of_example, self(k, readout[of_example]), strict=True):
                    scores[order[j]] = score

        return read
