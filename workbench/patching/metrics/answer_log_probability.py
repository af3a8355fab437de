"""Logarithm of the summed softmax probability of the answers."""

from torch import Tensor

from workbench.patching.metric import Columns, Example, Metric


def score(logits: Tensor, example: Example, columns: Columns) -> Tensor:
    return logits.log_softmax(-1)[:, columns(example.answer)].logsumexp(-1)


metric = Metric("answer_log_probability", "nats", score)
