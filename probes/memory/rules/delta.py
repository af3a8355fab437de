"""The delta rule, each pair once: ``S ← S + β (v − S k) kᵀ``; β = 1 stores the newest pair without an error.

The rule of Widrow and Hoff, of Rescorla and Wagner, and of DeltaNet. Many pairs are one triangular solve (in chunks),
``S = ((I + strictlower(β K Kᵀ))⁻¹ β V)ᵀ K``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from workbench.attention.primitives import delta
from workbench.attention.settings import Setting

from .. import laws
from ..laws import Law
from ..rule import Rule, Settings, State, read_matrix

_RECURSION = "s = E[y · v] and x = E[‖y‖²] by recursion over ages"


def write(state: State | None, k: Tensor, v: Tensor, settings: Settings) -> State:
    """S."""
    before = None if state is None else state[0].mT[:, None]
    beta = torch.full((1, 1, k.shape[1]), settings["beta"], dtype=k.dtype, device=k.device)
    decay = settings.get("decay", 1.0)
    rate = None if decay == 1 else torch.full_like(beta, math.log(decay))
    return (delta.advance(k[:, None], v[:, None], beta, rate, before)[:, 0].mT,)


def beta(default: float) -> Setting:
    """How much of an error is corrected."""
    return Setting(default, "number", "β, how much of an error each pair corrects", above=0, at_most=2)


def delta_laws(**fixed: Any) -> dict[str, Law]:
    """Those of the rule; `fixed` are settings that it does not have."""

    def rates(settings: Settings) -> dict[str, float]:
        return {**fixed, **settings}

    return {
        "mse": Law(
            lambda n, at: laws.delta_mse(n, at.d, **rates(at.settings)),
            "mean over ages of 1 − 2 s + x",
            exact=True,
            note=_RECURSION,
        ),
        "cosine": Law(
            lambda n, at: laws.delta_cosine(n, at.d, **rates(at.settings)),
            "mean over ages of s / √x",
            exact=False,
            note=f"{_RECURSION}; up to 3 % below with decay",
        ),
    }


rule = Rule(
    name="delta",
    title="Delta rule",
    source="Widrow and Hoff 1960; as attention: Yang et al. 2024, arXiv 2406.06484",
    write=write,
    read=read_matrix,
    settings={"beta": beta(1.0)},
    operator=lambda settings: f"delta(unit=False, beta={settings['beta']})" if settings["beta"] <= 1 else "",
    laws=delta_laws(decay=1.0),
)
