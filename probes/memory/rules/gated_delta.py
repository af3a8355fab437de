"""The gated delta rule, the delta rule on a state that decays: ``S ← g S``, then ``S ← S + β (v − S k) kᵀ``."""

from __future__ import annotations

from workbench.attention.settings import Setting

from ..rule import Rule, read_matrix
from .delta import beta, delta_laws, write

rule = Rule(
    name="gated-delta",
    title="Gated delta rule",
    source="Yang et al. 2024, arXiv 2412.06464",
    write=write,
    read=read_matrix,
    settings={
        "beta": beta(0.5),
        "decay": Setting(0.98, "number", "g, how much stays at each pair", above=0, at_most=1),
    },
    operator=lambda settings: (
        f"gated-delta(unit=False, beta={settings['beta']}, decay={settings['decay']})" if settings["beta"] <= 1 else ""
    ),
    laws=delta_laws(),
)
