"""A password is named and has to be repeated. A near relative of IOI: copying with nothing to inhibit.

The corrupt prompt names another password. No token is a duplicate, so there is no earlier stage.
"""

import random

from workbench.inputs.pairs import Pair, Task

from ..templates import minimal_pair
from ..words import WORDS

TEMPLATES = (
    "The password is {password}. To enter, you must say the password, which is",
    "The secret word is {password}. To enter, you must say the secret word, which is",
    "The password is {password}. To open the door, you must type the password, which is",
    "The code word is {password}. To come in, you must know the code word, which is",
)
POSITIONS = ("password", "end")


def draw(rng: random.Random) -> Pair:
    options = rng.sample(WORDS, 8)
    answer, wrong = options[:2]
    return minimal_pair(
        rng.choice(TEMPLATES),
        {"password": answer},
        {"password": wrong},
        answer=answer,
        wrong=wrong,
        options=sorted(options),
        positions=POSITIONS,
    )


task = Task(
    name="password-copying",
    title="Password copying",
    question="Which password was named?",
    draw=draw,
    positions=POSITIONS,
    stages={"logits": "end", "mover-value": "password", "mover-query": "end"},
    relation="near",
)
