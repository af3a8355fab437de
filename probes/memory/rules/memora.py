"""Memora: ``W ← c softmax(alpha log W − 2 eta e kᵀ)`` along each row, with ``e = W k − v``: W > 0, and rows sum to c.

An entry cannot be negative, but what is read can: keys have both signs, and a row reads the difference from c/d. c
bounds how far that goes, and adds ``c (Σ k) / d`` to everything that is read. ``preset="printed"``, c = 1 with the
operator's eta = 0.2 and alpha = 0.9, moves too little and forgets it: its error is 1, as that of a memory that reads 0.

``preset="tuned"``, the default, is c = 3, eta = 5 and nothing forgotten, the best at n = 64 of some 270 settings (c
from 1 to 32, eta from 0.2 to 32, alpha from 0.9 to 1, rows and columns): 0.52 at n = 32 and 0.68 at n = 64 (d = 64).
From c = 8 on the error exceeds 1 again. The best settings depend on d.
"""

from __future__ import annotations

from workbench.attention.operators import memora as steps

from ..gradient import functions, operator_text, printed_of, settings_of
from ..rule import Rule, Settings


def note(settings: Settings) -> str:
    """Of the printed form."""
    if settings["preset"] != "printed":
        return ""
    return "As printed, rows sum to 1: too little for values of length one (preset='tuned' has 3)."


write, read = functions(steps.MEMORY)

rule = Rule(
    name="memora",
    title="Memora",
    source=steps.operator.source,
    write=write,
    read=read,
    settings=settings_of(steps.operator),
    presets={
        "tuned": {**printed_of(steps.operator), "total": 3.0, "eta": 5.0, "alpha": 1.0},
        "printed": printed_of(steps.operator),
    },
    linear_in_v=lambda _: False,
    operator=lambda settings: operator_text(steps.operator, settings),
    note=note,
)
