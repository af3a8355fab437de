"""Softmax attention over the stored pairs, the modern Hopfield network: ``Σ_i softmax_i(B k_i · q) v_i``.

With keys and queries of length one, B = √d is the scaling in use: length √d and products divided by √d.
"""

from __future__ import annotations

from torch import Tensor

from workbench.attention.settings import Setting

from .. import laws
from ..laws import Law, Sizes
from ..rule import Rule, Settings, State
from .pseudo_inverse import write

_WEIGHTS = "p is the mean weight on the right item, p_j on the others"


def read(state: State, q: Tensor, settings: Settings) -> Tensor:
    """The weighted mean of the values."""
    return (_inverse_temperature(q.shape[-1], settings) * q @ state[0].mT).softmax(-1) @ state[1]


def _inverse_temperature(d: int, settings: Settings) -> float:
    return d**0.5 if settings["beta"] is None else settings["beta"]


def _beta(at: Sizes) -> float:
    return _inverse_temperature(at.d, at.settings)


rule = Rule(
    name="softmax",
    title="Softmax",
    source="Ramsauer et al. 2020, arXiv 2008.02217",
    write=write,
    read=read,
    settings={
        "beta": Setting(None, "number", "B, the inverse temperature; None for √d", above=0, at_most=500, optional=True)
    },
    operator=lambda settings: "softmax",
    laws={
        "mse": Law(
            lambda n, at: laws.softmax_mse(n, at.d, _beta(at)),
            "(1 − p)² + Σ p_j²",
            exact=False,
            note=f"{_WEIGHTS}; 2 % from n = 64 on at d = 64, 5 to 13 % below that",
        ),
        "cosine": Law(
            lambda n, at: laws.softmax_cosine(n, at.d, _beta(at)), "p / √(p² + Σ p_j²)", exact=False, note=_WEIGHTS
        ),
        "worst case": Law(
            lambda n, at: laws.softmax_worst_case(n, at.d, _beta(at)), "2 (1 − p)", exact=False, note=_WEIGHTS
        ),
    },
)
