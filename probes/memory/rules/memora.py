"""X."""

from __future__ import annotations

from workbench.attention.operators import memora as steps

from ..gradient import functions, printed_of, settings_of
from ..rule import Rule

write, read = functions(steps.MEMORY)

rule = Rule(
    name="memora",
    title="Memora",
    source=steps.operator.source,
    write=write,
    read=read,
    settings=settings_of(steps.operator),
    presets={"tuned": {}, "printed": printed_of(steps.operator)},
    linear_in_v=lambda _: False,
)
