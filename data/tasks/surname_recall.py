"""Three people with their surnames, then one first name: the surname follows. A near relative of IOI.

The corrupt prompt ends with the first name of another of the three. The pair differs in its last token alone, so there
is no earlier position at which a value or a duplicate signal could differ: only two stages exist.
"""

import random

from workbench.inputs.pairs import Pair, Task

from ..templates import minimal_pair
from ..words import FIRST_NAMES, SURNAMES

TEMPLATE = "{first0} {last0}, {first1} {last1}, {first2} {last2}. {query}"


def draw(rng: random.Random) -> Pair:
    firsts, lasts = rng.sample(FIRST_NAMES, 3), rng.sample(SURNAMES, 3)
    queried, other = rng.sample(range(3), 2)
    words = {f"first{i}": name for i, name in enumerate(firsts)} | {f"last{i}": name for i, name in enumerate(lasts)}
    return minimal_pair(
        TEMPLATE,
        words | {"query": firsts[queried]},
        {"query": firsts[other]},
        answer=lasts[queried],
        wrong=lasts[other],
        options=lasts,
        positions={"name": f"first{queried}", "surname": f"last{queried}"},
    )


task = Task(
    name="surname-recall",
    title="Surname recall",
    question="Which surname was listed with this first name?",
    draw=draw,
    positions=("name", "surname", "end"),
    stages={"logits": "end", "mover-query": "end"},
    relation="near",
)
