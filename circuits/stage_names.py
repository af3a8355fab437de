"""What a head is called, by the stage of path patching that found it and the sign of its effect.

The words are those of the reuse study (Merullo et al. 2024, arXiv 2310.08744). They say *where in the chain* a head was
found, not what it attends to: that takes tests of its behaviour, which other findings make. The study's "inhibition"
heads and its "content gatherers" are both found at the movers' queries; both read "inhibition" here.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Stage → the role of a head whose corrupt output moves the metric towards the corrupt run.
ROLES: Mapping[str, str] = {
    "logits": "mover",
    "mover-value": "value sender",
    "mover-query": "inhibition",
    "earlier": "early sender",
}
#: Stage → what it measures, for people.
STAGES: Mapping[str, str] = {
    "logits": "heads → logits",
    "mover-value": "heads → values of the movers",
    "mover-query": "heads → queries of the movers",
    "earlier": "heads → values of the inhibition heads",
}


def role_of(stage: str, effect: float) -> str:
    """``role_of("logits", -0.2) == "negative mover"``.

    `effect` is the change over source − base: positive when corrupting the head moves the metric towards the corrupt
    run, so that the head works for the right answer; negative when it works against it.
    """
    name = ROLES.get(stage, stage)
    return name if effect >= 0 else f"negative {name}"


def role_words() -> tuple[str, ...]:
    """Every role in the order of the stages, each with its negative."""
    return tuple(word for name in ROLES.values() for word in (name, f"negative {name}"))
