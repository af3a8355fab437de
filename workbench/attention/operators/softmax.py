"""Softmax attention: ``A = softmax(q kᵀ / √d)`` over what a position may see."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.operator import Operator
from workbench.attention.primitives import softmax_forms


def mask(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """Everything that is visible."""
    return torch.ones(1, 1, q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)


operator = Operator(
    name="softmax",
    version=1,
    source="Vaswani et al. 2017, arXiv 1706.03762",
    status="as published",
    mask=mask,
    efficient=softmax_forms.plain,
)
