"""Two people talk, one asks: who answers? A near relative of IOI.

The question stands in the same sentence as the two names: after a full stop SmolLM2-135M names the person listed last,
whoever asked.
"""

import random

from workbench.inputs.pairs import Pair, Task

from ..templates import minimal_pair
from ..words import FIRST_NAMES, PLACES

_IO_LAST = (
    "When {S1} and {IO} were talking, {S2} asked a question, which was answered by",
    "While {S1} and {IO} were talking, {S2} asked a question, which was answered by",
    "When {S1} and {IO} met at the {place}, {S2} asked a question, which was answered by",
    "After {S1} and {IO} went to the {place}, {S2} asked a question, which was answered by",
)
TEMPLATES = tuple(t for last in _IO_LAST for t in (last, last.replace("{S1} and {IO}", "{IO} and {S1}")))
POSITIONS = ("IO", "S1", "S1+1", "S2", "end")


def draw(rng: random.Random) -> Pair:
    io, s = rng.sample(FIRST_NAMES, 2)
    words = {"IO": io, "S1": s, "S2": s, "place": rng.choice(PLACES)}
    return minimal_pair(
        rng.choice(TEMPLATES), words, {"S2": io}, answer=io, wrong=s, options=(io, s), positions=POSITIONS
    )


task = Task(
    name="answered-by",
    title="Answered by",
    question="Of two people, one asks a question: who answers it?",
    draw=draw,
    positions=POSITIONS,
    stages={"logits": "end", "mover-value": "S2", "mover-query": "end", "earlier": "S2"},
    relation="near",
)
