"""Memora: a matrix memory with positive entries whose rows sum to a constant.

``W ← c softmax(alpha log W − eta g)`` along each row (or column), with ``e = W k − v``, ``g = 2 e kᵀ`` and ``z = W q``.

`retention`: ``"decay"`` is as above; with ``"kl"`` alpha is the weight of a KL term to the memory before:
``W ← c softmax((1 − λ) log W − eta' g)``, ``λ = eta / (alpha + eta)``, ``eta' = alpha eta / (alpha + eta)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.layer import State
from workbench.attention.operator import Operator
from workbench.attention.primitives import memory
from workbench.attention.primitives.memory import Memory
from workbench.attention.settings import Setting


def _axis(call: Call) -> int:
    return -1 if call["slices"] == "rows" else -2


def start(like: Tensor, call: Call) -> State:
    """All entries alike. What is held is ``log(W / c)``: W of entries near 0 would lose them."""
    return (torch.log_softmax(like, _axis(call)),)


def step(state: State, e: Tensor, k: Tensor, rates: memory.Rates, call: Call) -> State:
    """``log(W / c)`` after a position; c moves all entries of a row alike, and falls out of the softmax."""
    eta, alpha = rates["eta"], rates["alpha"]
    if call["retention"] == "kl":
        eta, alpha = alpha * eta / (alpha + eta), alpha / (alpha + eta)
    return (torch.log_softmax(alpha * state[0] - eta * call["factor"] * e * k, _axis(call)),)


def weights(state: State, call: Call) -> Tensor:
    """W."""
    return call["total"] * state[0].exp()


MEMORY = Memory(start, step, weights)

operator = Operator(
    name="memora",
    version=1,
    source=memory.SOURCE,
    status="reconstruction",
    choices=(
        *memory.CHOICES,
        "the factor 2 of the gradient, which other models of the family leave out (`factor`)",
        "c = 1, and slices are rows of W [d_value, d_head]",
        "all entries of W alike at the start",
    ),
    settings=memory.settings(
        total=Setting(1.0, "number", "c, the sum of each slice", above=0),
        slices=Setting("rows", "word", "what sums to c", choices=("rows", "columns")),
        factor=Setting(2.0, "number", "what the gradient e kᵀ is multiplied by", above=0),
        retention=Setting("decay", "word", "how the memory before counts", choices=("decay", "kl")),
    ),
    needs=("gates",),
    invents=memory.INVENTS,
    causal="token",
    row_stochastic=False,
    linear_in_v=False,
    matrix_axis="none",
    resumes="state",
    form="gradient memory",
    records=("weights", "surprise", "eta", "alpha"),
    efficient=MEMORY.efficient,
    advance=MEMORY.advance,
    resume=MEMORY.resume,
    record=MEMORY.record,
    module=memory.Module,
)
