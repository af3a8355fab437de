"""Three names, two of them repeated: which one is left? A near relative of IOI.

The corrupt prompt repeats the remaining name in the place of S2, so that S is the one who is left.
"""

import random

from workbench.inputs.pairs import Pair, Task

from ..templates import minimal_pair
from ..words import FIRST_NAMES, OBJECTS, PLACES

_ORDERS = ("{T1}, {S1} and {IO}", "{T1}, {IO} and {S1}", "{IO}, {T1} and {S1}")
TEMPLATES = tuple(
    template.replace("{names}", order)
    for order in _ORDERS
    for template in (
        "After {names} went to the {place}, {T2} and {S2} gave a {object} to",
        "When {names} went to the {place}, {T2} and {S2} gave a {object} to",
    )
)
POSITIONS = ("IO", "S1", "S1+1", "S2", "end")


def draw(rng: random.Random) -> Pair:
    io, s, third = rng.sample(FIRST_NAMES, 3)
    words = {"IO": io, "S1": s, "S2": s, "T1": third, "T2": third}
    words |= {"place": rng.choice(PLACES), "object": rng.choice(OBJECTS)}
    return minimal_pair(
        rng.choice(TEMPLATES), words, {"S2": io}, answer=io, wrong=s, options=(io, s, third), positions=POSITIONS
    )


task = Task(
    name="remaining-name",
    title="The remaining name",
    question="Of three people, two are named again: who is left?",
    draw=draw,
    positions=POSITIONS,
    stages={"logits": "end", "mover-value": "S2", "mover-query": "end", "earlier": "S2"},
    relation="near",
)
