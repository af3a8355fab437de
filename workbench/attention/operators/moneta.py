"""Moneta: a matrix memory trained with an l_p loss and kept small by an l_q norm.

``A ← alpha A − eta p sign(e) |e|^(p−1) kᵀ`` with ``e = W k − v``, then ``W = A / ‖A‖_q^(q−2)`` over all entries of A (0
where A is 0), and ``z = W q``. With p = q = 2 it is the delta rule with decay, its error counted twice.

`retention`: two sources print the exponent q − 2, a third ``(q − 2) / q``; ``"mirror"`` is what the norm's mirror map
would be, ``W = (q − 1) sign(A) |A|^(p'−1) / ‖A‖_p'^(p'−2)``, ``p' = q / (q − 1)``, for 1 < q ≤ 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.arguments import refusal
from workbench.attention.call import Call
from workbench.attention.layer import Settings, State
from workbench.attention.operator import Operator
from workbench.attention.primitives import memory
from workbench.attention.primitives.memory import Memory, power
from workbench.attention.settings import Setting


def start(like: Tensor, call: Call) -> State:
    """``A = 0``."""
    return (like,)


def step(state: State, e: Tensor, k: Tensor, rates: memory.Rates, call: Call) -> State:
    """A after a position."""
    p = call["p"]
    if call["smooth"]:
        slope = torch.tanh(10 * e) * (e.square() + 1e-6) ** ((p - 1) / 2)
    else:
        slope = torch.sign(e) * power(e, p - 1)
    return (rates["alpha"] * state[0] - rates["eta"] * p * slope * k,)


def weights(state: State, call: Call) -> Tensor:
    """W from A."""
    a, q = state[0], call["q"]
    if q == 2:
        return a
    if call["retention"] == "mirror":
        dual = q / (q - 1)
        return (q - 1) * torch.sign(a) * power(a, dual - 1) * _norm(a, dual) ** (2 - dual)
    exponent = q - 2 if call["retention"] == "q-2" else (q - 2) / q
    return a / _norm(a, q) ** exponent


def _norm(a: Tensor, q: float) -> Tensor:
    """Over all entries; 1 where they are all 0."""
    total = power(a, q).sum((-2, -1), keepdim=True)
    return torch.where(total > 0, total, 1) ** (1 / q)


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """Those of every memory, and A."""
    return {**MEMORY.record(q, k, v, call), "accumulated": MEMORY.advance(k, v, call, None)[0]}


def check(settings: Settings) -> None:
    """The mirror map is that of 1 < q ≤ 2; beyond, entries of A near 0 become large in W, which diverges."""
    if settings["retention"] == "mirror" and settings["q"] > 2:
        raise refusal("moneta(q)", settings["q"], "a number above 1 and of at most 2", because="retention is 'mirror'")


MEMORY = Memory(start, step, weights)

operator = Operator(
    name="moneta",
    version=1,
    source=memory.SOURCE,
    status="reconstruction",
    choices=(
        *memory.CHOICES,
        "the exponent q − 2 of two sources against (q − 2) / q of a third; q = 4, where the text wants 1 < q ≤ 2",
        "A = 0 at the start",
    ),
    settings=memory.settings(
        p=Setting(3.0, "number", "of the loss |e|^p", at_least=1),
        q=Setting(4.0, "number", "of the norm that A is divided by", above=1),
        retention=Setting("q-2", "word", "how W follows from A", choices=("q-2", "(q-2)/q", "mirror")),
        smooth=Setting(False, "flag", "tanh(10 e) for the sign and √(e² + 10⁻⁶) for |e|"),
    ),
    needs=("gates",),
    invents=memory.INVENTS,
    causal="token",
    row_stochastic=False,
    linear_in_v=lambda settings: settings["p"] == settings["q"] == 2 and not settings["smooth"],
    matrix_axis="none",
    resumes="state",
    form="gradient memory",
    records=("weights", "surprise", "eta", "alpha", "accumulated"),
    efficient=MEMORY.efficient,
    advance=MEMORY.advance,
    resume=MEMORY.resume,
    record=record,
    module=memory.Module,
    check=check,
)
