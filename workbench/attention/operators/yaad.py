"""Yaad: a matrix memory whose large errors count less, by a Huber loss.

``W ← alpha W − eta g kᵀ`` with ``e = W k − v``, and ``z = W q``. `huber` is how g follows from e at the limit delta::

    printed       e where ‖e‖ ≤ delta, delta sign(e) elsewhere: a jump of up to √d_value at delta
    norm          e where ‖e‖ ≤ delta, delta e / ‖e‖ elsewhere
    coordinate    each entry of e cut at ±delta

Without a limit (``delta=None``) all are the delta rule with decay.
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


def start(like: Tensor, call: Call) -> State:
    """``W = 0``."""
    return (like,)


def slope(e: Tensor, rates: memory.Rates, call: Call) -> Tensor:
    """g."""
    if call["delta"] is None:
        return e
    delta, form = rates["delta"], call["huber"]
    if form == "coordinate":
        return torch.maximum(torch.minimum(e, delta), -delta)
    square = e.square().sum(-2, keepdim=True)
    large = square > delta.square()
    direction = torch.sign(e) if form == "printed" else e * torch.where(large, square, 1).rsqrt()
    return torch.where(large, delta * direction, e)


def step(state: State, e: Tensor, k: Tensor, rates: memory.Rates, call: Call) -> State:
    """W after a position."""
    return (rates["alpha"] * state[0] - rates["eta"] * call["factor"] * slope(e, rates, call) * k,)


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """Those of every memory, and whether the error of each position was beyond delta, ``[batch, head, src]``."""
    result = MEMORY.record(q, k, v, call)
    delta = result.pop("delta", torch.full_like(result["surprise"], torch.inf))
    return {**result, "limited": result["surprise"] > delta}


MEMORY = Memory(start, step, lambda state, call: state[0])

operator = Operator(
    name="yaad",
    version=1,
    source=memory.SOURCE,
    status="reconstruction",
    choices=(
        *memory.CHOICES,
        "the gradient of ½ ‖e‖², without the factor 2 of other models of the family (`factor`)",
        "sign(e) beyond delta as printed, where the Huber loss has e / ‖e‖",
        "W = 0 at the start",
    ),
    settings=memory.settings(
        delta=Setting(
            1.0, "number", "delta, the largest error that counts in full, before training", above=0, optional=True
        ),
        huber=Setting("printed", "word", "the form of the loss", choices=("printed", "norm", "coordinate")),
        factor=Setting(1.0, "number", "what the gradient is multiplied by", above=0),
    ),
    needs=("gates",),
    invents=memory.INVENTS,
    causal="token",
    row_stochastic=False,
    linear_in_v=lambda settings: settings["delta"] is None,
    matrix_axis="none",
    resumes="state",
    form="gradient memory",
    records=("weights", "surprise", "eta", "alpha", "limited"),
    efficient=MEMORY.efficient,
    advance=MEMORY.advance,
    resume=MEMORY.resume,
    record=record,
    module=memory.Module,
)
