"""Summed softmax probability of the answers."""

from torch import Tensor

from workbench.patching.metric import Columns, Example, Metric


def score(logits: Tensor, example: Example, columns: Columns) -> Tensor:
    return logits.softmax(-1)[:, columns(example.answer)].sum(-1)


metric = Metric("answer_probability", "probability", score)
