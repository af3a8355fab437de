"""KL(clean ‖ edited) of the next-token distribution; where rounding would make it negative, 0.

A token that the clean run excludes (a logit of −∞) adds nothing; one that only the edited run excludes makes it +∞.
"""

from torch import Tensor

from workbench.errors import BadInput
from workbench.patching.divergence import kl_divergence
from workbench.patching.metric import Columns, Example, Metric


def score(logits: Tensor, example: Example, columns: Columns) -> Tensor:
    if example.reference is None:
        raise BadInput("The KL divergence needs the clean run's logits.")
    return kl_divergence(example.reference.log_softmax(-1), logits.log_softmax(-1))


metric = Metric("kl_divergence", "nats", score, reference=True, answers=False)
