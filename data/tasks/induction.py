"""Induction (Olsson et al. 2022, arXiv 2209.11895): "… A B … A" → B, in random words, with no meaning to lean on.

Ten words, then three of them again in the same order: the fourth follows. The study repeats random tokens; these are
words of one token each, so that the task works with many vocabularies.

Corruptions: in ``swapped`` the first A and another word C are swapped, so that the word after C followed A. Then
neither the word to copy nor the last word differs, only what went before them: the difference reaches the end through a
previous-token head into the *keys* of the induction heads. (No value of a mover carries it, so there is no stage
"mover-value"; ``path_patch(..., into="k", position="B1")`` finds the previous-token heads.) ``copied`` puts a new word
in the place of the first B: one word differs, the one to copy, and previous-token heads play no part.
"""

import random

from workbench.inputs.pairs import Pair, Task

from ..templates import minimal_pair
from ..words import WORDS

LENGTH, AGAIN = 10, 3
POSITIONS = ("A1", "B1", "end")


def draw(rng: random.Random, corruption: str = "swapped") -> Pair:
    *words, new = rng.sample(WORDS, LENGTH + 1)
    a = rng.randrange(AGAIN - 1, LENGTH - 1)
    # C and the word after it are none of those that come again, nor B.
    c = rng.choice([i for i in range(LENGTH - 1) if not a - AGAIN <= i <= a + 1])
    slots = [f"{{w{i}}}" for i in range(LENGTH)]
    changed, wrong = {f"w{a}": words[c], f"w{c}": words[a]}, words[c + 1]
    if corruption == "copied":
        changed, wrong = {f"w{a + 1}": new}, new
    return minimal_pair(
        # The space at the start: a word that opens a text is often another token.
        " " + " ".join([*slots, *words[a - AGAIN + 1 : a + 1]]),
        {f"w{i}": word for i, word in enumerate(words)},
        changed,
        answer=words[a + 1],
        wrong=wrong,
        options=sorted({*words, wrong}),
        positions={"A1": f"w{a}", "B1": f"w{a + 1}"},
    )


task = Task(
    name="induction",
    title="Induction",
    question="Which word followed the last word when it first occurred?",
    draw=draw,
    positions=POSITIONS,
    stages={"logits": "end", "mover-query": "end"},
    variants={
        "corruption": {
            "swapped": {},
            "copied": {"stages": {"logits": "end", "mover-value": "B1", "mover-query": "end"}},
        }
    },
)
