"""1 when the largest logit among the options is an answer's, else 0. Without options: answers and wrong answers."""

import torch
from torch import Tensor

from workbench.patching.metric import Columns, Example, Metric


def options(example: Example) -> tuple[int, ...]:
    return tuple(dict.fromkeys(example.options or (*example.answer, *example.wrong)))


def score(logits: Tensor, example: Example, columns: Columns) -> Tensor:
    candidates = options(example)
    best = logits[:, columns(candidates)].argmax(-1)
    right = torch.tensor([option in example.answer for option in candidates], device=logits.device)
    return right[best].to(logits.dtype)


metric = Metric("accuracy_among_options", "fraction right", score, wrong=True, tokens=options)
