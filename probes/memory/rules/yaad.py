"""Yaad: ``W ← alpha W − eta g kᵀ`` with ``e = W k − v``, where g is e up to a length of δ and shorter beyond (Huber).

``preset="printed"`` takes sign(e) beyond δ, as printed: a step of √d_value in place of δ, which makes an error larger
than it was. At δ = 1 that is decided by rounding, because the error of a new value of length one is 1. With eta = 1 and
δ = 0.5 it errs by 4 to 6, with the operator's eta = 0.2 and alpha = 0.9 by about 1, as a memory that reads 0 does.

``preset="tuned"``, the default, is the loss's own gradient (``huber="norm"``), eta = 1 and nothing forgotten, among the
best of 180 settings (eta from 0.2 to 1.5, alpha from 0.9 to 1, δ from 0.1 to 2, the three forms) at d = 64 and n = 32
and 64: of values of length one its error is below the delta rule's, 0.26 and 0.49 against 0.29 and 0.60.
"""

from __future__ import annotations

from workbench.attention.operators import yaad as steps

from ..gradient import functions, operator_text, printed_of, settings_of
from ..rule import Rule, Settings


def note(settings: Settings) -> str:
    """Of the printed form."""
    if settings["huber"] != "printed" or settings["delta"] is None:
        return ""
    return "As printed, sign(e) beyond δ: the step is up to √d_value times longer than δ (preset='tuned' is not)."


write, read = functions(steps.MEMORY)

rule = Rule(
    name="yaad",
    title="Yaad",
    source=steps.operator.source,
    write=write,
    read=read,
    settings=settings_of(steps.operator),
    presets={
        "tuned": {**printed_of(steps.operator), "huber": "norm", "eta": 1.0, "alpha": 1.0, "delta": 1.0},
        "printed": printed_of(steps.operator),
    },
    linear_in_v=lambda settings: settings["delta"] is None,
    operator=lambda settings: operator_text(steps.operator, settings),
    note=note,
)
