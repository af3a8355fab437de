"""KL(clean ‖ edited) of the next-token distribution; where rounding would make it negative, 0."""

from torch import Tensor

from workbench.errors import BadInput
from workbench.patching.metric import Columns, Example, Metric


def score(logits: Tensor, example: Example, columns: Columns) -> Tensor:
    if example.reference is None:
        raise BadInput("The KL divergence needs the clean run's logits.")
    clean = example.reference.log_softmax(-1)
    return (clean.exp() * (clean - logits.log_softmax(-1))).sum(-1).clamp(min=0)


metric = Metric("kl_divergence", "nats", score, reference=True, answers=False)
