"""A Hebbian memory that forgets at a constant rate, as RetNet's heads do: ``S ← g S + v kᵀ``."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.attention.settings import Setting

from .. import laws
from ..laws import Law
from ..rule import Rule, Settings, State, read_matrix


def write(state: State | None, k: Tensor, v: Tensor, settings: Settings) -> State:
    """S."""
    n, g = k.shape[1], settings["decay"]
    age = torch.arange(n - 1, -1, -1, dtype=k.dtype, device=k.device)
    new = (v * g ** age[:, None]).mT @ k
    return (new if state is None else g**n * state[0] + new,)


rule = Rule(
    name="decay",
    title="Decay",
    source="Sun et al. 2023 (RetNet), arXiv 2307.08621; code fla-org/flash-linear-attention",
    write=write,
    read=read_matrix,
    settings={"decay": Setting(0.97, "number", "g, how much stays at each pair", above=0, at_most=1)},
    laws={
        "mse": Law(
            lambda n, at: float(laws.decay_mse_by_age(n, at.d, at.settings["decay"]).mean()),
            "mean over ages a of (1 − g^a)² + (Σ g^2b − g^2a) / d",
            exact=True,
        ),
        "cosine": Law(
            lambda n, at: laws.decay_cosine(n, at.d, at.settings["decay"]),
            "mean over ages a of g^a / √(g^2a + (Σ g^2b − g^2a) / d)",
            exact=False,
            note="up to 3 % below",
        ),
    },
)
