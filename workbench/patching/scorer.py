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
        wanted = [metric.required_tokens(example) for example in examples]
        union = sorted({token for ids in wanted for token in ids or ()})
        self.tokens = None if None in wanted else torch.tensor(union)
        self._columns = [None if ids is None else [union.index(token) for token in ids] for ids in wanted]

    def __call__(self, k: int, readout: Float[Tensor, "row n"]) -> list[float]:
        """The scores of rows of the k-th example."""
        return self.scores(k, readout).tolist()

    def scores(self, k: int, readout: Float[Tensor, "row n"]) -> Float[Tensor, "row"]:
        """The same as a tensor, through which gradients flow."""
        columns = self._columns[k]
        return self.metric(readout if columns is None else readout[:, columns], self.examples[k])

    def into(self, scores: list[float], rows: Sequence[EditedRun]) -> Callable[[Sequence[int], Tensor], None]:
        """A reader for `climb` that fills in the score of each of `rows`."""

        def read(order: Sequence[int], readout: Tensor) -> None:
            for k in dict.fromkeys(rows[i].input for i in order):
                mine = [j for j, i in enumerate(order) if rows[i].input == k]
                for j, score in zip(mine, self(k, readout[mine]), strict=True):
                    scores[order[j]] = score

        return read
