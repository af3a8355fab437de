"""Mean logit of the answers minus mean logit of the wrong answers."""

from torch import Tensor

from workbench.patching.metric import Columns, Example, Metric


def score(logits: Tensor, example: Example, columns: Columns) -> Tensor:
    return logits[:, columns(example.answer)].mean(-1) - logits[:, columns(example.wrong)].mean(-1)


metric = Metric(
    "logit_difference", "logits", score, wrong=True, tokens=lambda example: (*example.answer, *example.wrong)
)
