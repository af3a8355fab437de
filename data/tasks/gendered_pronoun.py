"""The pronoun of a tag question, by the gender a first name suggests. Distant from IOI.

The corrupt prompt has a name of the other list.
"""

import random

from workbench.inputs.pairs import Pair, Task

from ..templates import minimal_pair
from ..words import MEN, WOMEN, word_list

ADJECTIVES = ("good", "great", "nice", "talented", "wonderful")
ROLES = word_list("cook friend singer dancer writer teacher artist player student neighbor")
# "So" comes first because a name that opens a text is several tokens in byte-level vocabularies.
TEMPLATES = ("So {name} is such a {adjective} {role}, isn't", "So {name} is a really {adjective} {role}, isn't")
POSITIONS = ("name", "role", "end")


def draw(rng: random.Random) -> Pair:
    (names, pronoun), (others, wrong) = rng.sample([(WOMEN, "she"), (MEN, "he")], 2)
    words = {"name": rng.choice(names), "adjective": rng.choice(ADJECTIVES), "role": rng.choice(ROLES)}
    return minimal_pair(
        rng.choice(TEMPLATES),
        words,
        {"name": rng.choice(others)},
        answer=pronoun,
        wrong=wrong,
        options=("she", "he"),
        positions=POSITIONS,
    )


task = Task(
    name="gendered-pronoun",
    title="Gendered pronoun",
    question="Which pronoun goes with this first name?",
    draw=draw,
    positions=POSITIONS,
    stages={"logits": "end", "mover-value": "name", "mover-query": "end"},
    relation="distant",
)
