"""Indirect object identification (Wang et al. 2022, arXiv 2211.00593): two names, one repeated, the other receives.

Corruptions: ``s2-io`` puts the IO name in the place of S2, the minimal pair of the reuse study (Merullo et al. 2024,
arXiv 2310.08744; its right answer is the clean prompt's wrong one); ``abc`` puts three other names in the three places.

Under ``s2-io`` nothing before S2 differs, so no value of a mover can change at the IO name: the stage "mover-value" is
taken at S2, the first position where it can. Under ``abc`` it is taken at IO, where movers read.
"""

import random

from workbench.inputs.pairs import Pair, Task

from ..templates import minimal_pair
from ..words import FIRST_NAMES, OBJECTS, PLACES

_IO_FIRST = (
    "When {IO} and {S1} went to the {place}, {S2} gave a {object} to",
    "After {IO} and {S1} went to the {place}, {S2} gave a {object} to",
    "Then, {IO} and {S1} went to the {place}. {S2} gave a {object} to",
    "While {IO} and {S1} were working at the {place}, {S2} gave a {object} to",
    "Then, {IO} and {S1} had a long argument, and afterwards {S2} gave a {object} to",
    "Then, {IO} and {S1} were thinking about going to the {place}. {S2} wanted to give a {object} to",
    "Friends {IO} and {S1} found a {object} at the {place}. {S2} gave it to",
    "When {IO} and {S1} got a {object} at the {place}, {S2} decided to give it to",
    "The {place} {IO} and {S1} went to had a {object}. {S2} gave it to",
)
# ABBA: the IO name comes first (A B B, then A); BABA: the subject does.
TEMPLATES = tuple(t for abba in _IO_FIRST for t in (abba, abba.replace("{IO} and {S1}", "{S1} and {IO}")))
POSITIONS = ("IO", "S1", "S1+1", "S2", "end")


def draw(rng: random.Random, corruption: str = "s2-io") -> Pair:
    io, s, *others = rng.sample(FIRST_NAMES, 5)
    words = {"IO": io, "S1": s, "S2": s, "place": rng.choice(PLACES), "object": rng.choice(OBJECTS)}
    changed = {"S2": io}
    if corruption == "abc":
        changed = {"IO": others[0], "S1": others[1], "S2": others[2]}
    return minimal_pair(rng.choice(TEMPLATES), words, changed, answer=io, wrong=s, options=(io, s), positions=POSITIONS)


task = Task(
    name="ioi",
    title="Indirect object identification",
    question="Of two people, the one who is named twice gives something: to whom?",
    draw=draw,
    positions=POSITIONS,
    stages={"logits": "end", "mover-value": "S2", "mover-query": "end", "earlier": "S2"},
    relation="ioi",
    variants={
        "corruption": {
            "s2-io": {},
            "abc": {"stages": {"logits": "end", "mover-value": "IO", "mover-query": "end", "earlier": "S2"}},
        }
    },
)
