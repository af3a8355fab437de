"""The Hebbian memory, linear attention without a feature map: ``S ← S + v kᵀ``, read as ``S q``."""

from __future__ import annotations

from torch import Tensor

from .. import laws
from ..laws import Law
from ..rule import Rule, Settings, State, read_matrix


def write(state: State | None, k: Tensor, v: Tensor, settings: Settings) -> State:
    """S."""
    new = v.mT @ k
    return (new if state is None else state[0] + new,)


rule = Rule(
    name="hebbian",
    title="Hebbian",
    source="Hebb 1949; as attention: Katharopoulos et al. 2020, arXiv 2006.16236",
    write=write,
    read=read_matrix,
    operator=lambda _: "lightning(norm=False, slopes='layered')",  # its head 0 never forgets
    laws={
        "mse": Law(
            lambda n, at: laws.hebbian_mse(n, at.d),
            "(n − 1) / d",
            exact=True,
            of_gram=laws.of_gram,
            of_gram_formula="n / PR − 1",
        ),
        "cosine": Law(lambda n, at: laws.hebbian_cosine(n, at.d), "1 / √(1 + (n − 1) / d)", exact=False),
        "sign": Law(lambda n, at: laws.hebbian_sign_error(n, at.d), "Φ(−√(d / (n − 1)))", exact=False),
        "argmax": Law(
            lambda n, at: laws.hebbian_argmax(n, at.d, at.d_value),
            "E[Φ((1 + s z) / s_c)^(n − 1)]",
            exact=False,
            note="10 % below at d = 64, 16 % at d = 32; s² = (n − 1)/(d d_value), "
            "s_c² = 1/d + 1/d_value + (n − 2)/(d d_value)",
        ),
        "worst case": Law(
            lambda n, at: laws.hebbian_worst_case(n, at.d), "(n − 1) Γ(d/2) / (√π Γ((d+1)/2))", exact=True
        ),
    },
)
