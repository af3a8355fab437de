"""1 when the largest logit of the whole vocabulary is an answer's, else 0."""

import torch
from torch import Tensor

from workbench.patching.metric import Columns, Example, Metric


def score(logits: Tensor, example: Example, columns: Columns) -> Tensor:
    return torch.isin(logits.argmax(-1), columns(example.answer)).to(logits.dtype)


metric = Metric("accuracy", "fraction right", score)
