"""The pseudo-inverse, the least squares that the delta rule comes to after many passes: ``W = Vᵀ (K⁺)ᵀ``.

It stores the pairs and solves in float64 when it is read. Without an error up to n = d pairs of independent keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import laws
from ..laws import Law
from ..rule import Rule, Settings, State


def write(state: State | None, k: Tensor, v: Tensor, settings: Settings) -> State:
    """Keys and values."""
    return (k, v) if state is None else (torch.cat([state[0], k], 1), torch.cat([state[1], v], 1))


def read(state: State, q: Tensor, settings: Settings) -> Tensor:
    """``q K⁺ V``, by the smaller of ``K Kᵀ`` and ``Kᵀ K``."""
    keys, values = (x.double() for x in state)
    if keys.shape[1] <= keys.shape[2]:
        weights = q.double() @ keys.mT @ torch.linalg.pinv(keys @ keys.mT, hermitian=True)
        return (weights @ values).to(q.dtype)
    solved = torch.linalg.pinv(keys.mT @ keys, hermitian=True) @ (keys.mT @ values)
    return (q.double() @ solved).to(q.dtype)


rule = Rule(
    name="pseudo-inverse",
    title="Pseudo-inverse",
    source="Kohonen and Ruohonen 1973; Penrose 1955",
    write=write,
    read=read,
    laws={
        "mse": Law(lambda n, at: laws.pseudo_inverse_mse(n, at.d), "max(0, 1 − d / n)", exact=True, any_keys=True),
        "cosine": Law(
            lambda n, at: laws.pseudo_inverse_cosine(n, at.d), "min(1, √(d / n))", exact=False, any_keys=True
        ),
    },
)
