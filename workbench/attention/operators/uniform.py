"""Uniform: every position takes the mean of all values that it may see.

``A[i, j] = 1 / |visible(i)|``. A control of our own for what attention's choice of sources adds: no query
or key is read.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.layer import State
from workbench.attention.operator import Operator
from workbench.attention.primitives.visible import visible, without_padding


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """The same for every head."""
    seen = visible(call, q.shape[2], k.shape[2], q.device).to(_wide(q))
    return (seen / seen.sum(-1, keepdim=True).clamp(min=1)).to(q.dtype).expand(q.shape[0], q.shape[1], -1, -1)


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """Running sums."""
    return resume(q, k, v, _nothing(v), call)


def advance(k: Tensor, v: Tensor, call: Call, state: State | None) -> State:
    """The sum of the values, ``[batch, head, d_value]``, and how many they are, ``[batch, 1, 1]``."""
    total, count = _nothing(v) if state is None else state
    return total + without_padding(v.to(_wide(v)), call).sum(2), count + _ones(v, call).sum(2)


def resume(q: Tensor, k: Tensor, v: Tensor, state: State, call: Call) -> Tensor:
    """The mean of what the state has and of the positions up to each."""
    total, count = (x[:, :, None] for x in state)
    values, ones = without_padding(v.to(_wide(v)), call), _ones(v, call)
    if call.causal:
        sums, counts = values.cumsum(2), ones.cumsum(2)
    else:
        sums, counts = values.sum(2, keepdim=True).expand_as(v), ones.sum(2, keepdim=True)
    return ((total + sums) / (count + counts).clamp(min=1)).to(v.dtype)


def _nothing(v: Tensor) -> State:
    return v.new_zeros(v.shape[0], v.shape[1], v.shape[3], dtype=_wide(v)), v.new_zeros(
        v.shape[0], 1, 1, dtype=_wide(v)
    )


def _ones(v: Tensor, call: Call) -> Tensor:
    return without_padding(v.new_ones(v.shape[0], 1, v.shape[2], 1, dtype=_wide(v)), call)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)  # bfloat16 cannot count


operator = Operator(
    name="uniform",
    version=1,
    source="none: a control of our own",
    status="control",
    ignores=("q", "k"),
    resumes="state",
    form="mean",
    matrix=matrix,
    efficient=efficient,
    advance=advance,
    resume=resume,
)
