"""Moneta: ``A ← alpha A − eta p sign(e) |e|^(p−1) kᵀ``, ``e = W k − v``, and W is A divided by a power of ``‖A‖_q``.

``preset="printed"`` divides by ``‖A‖_q^(q−2)``, with p = 3, q = 4, and the operator's eta = 0.2 and alpha = 0.9: W then
falls as A grows, and the memory errs by 1.6 to 2, more than one that reads 0 does.

``preset="tuned"``, the default, keeps p = 3 and q = 4 and takes the exponent (q − 2)/q of another source, eta = 0.5 and
nothing forgotten: 0.41 at n = 32 and 0.56 at n = 64 (d = 64). It is the best with p = 3 and q = 4 of 365 settings
(eta from 0.05 to 32, alpha 0.9 and 1, p from 1.5 to 3, q from 1.25 to 4, all forms of retention). p = 2 does better,
0.28 and 0.50 with q = 3, and is the delta rule with q = 2.
"""

from __future__ import annotations

from workbench.attention.operators import moneta as steps

from ..gradient import functions, operator_text, printed_of, settings_of
from ..rule import Rule, Settings


def note(settings: Settings) -> str:
    """Of the printed form."""
    if settings["retention"] != "q-2" or settings["q"] == 2:
        return ""
    return "As printed, W = A / ‖A‖_q^(q−2) falls as A grows (preset='tuned' does not)."


write, read = functions(steps.MEMORY)

rule = Rule(
    name="moneta",
    title="Moneta",
    source=steps.operator.source,
    write=write,
    read=read,
    settings=settings_of(steps.operator),
    presets={
        "tuned": {**printed_of(steps.operator), "retention": "(q-2)/q", "eta": 0.5, "alpha": 1.0},
        "printed": printed_of(steps.operator),
    },
    check=steps.check,
    linear_in_v=lambda settings: settings["p"] == settings["q"] == 2 and not settings["smooth"],
    operator=lambda settings: operator_text(steps.operator, settings),
    note=note,
)
