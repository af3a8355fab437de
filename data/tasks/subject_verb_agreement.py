"""Subject-verb agreement past a noun of the other number ("The keys of the cabinet" → are). Distant from IOI.

The corrupt prompt has the subject in the other number; the noun in between stays, and misleads only in the clean one.
"""

import random

from workbench.inputs.pairs import Pair, Task

from ..templates import minimal_pair
from ..words import word_list

SUBJECTS = word_list("key door box picture report letter photo book map window wall card sign wheel lamp")
DISTRACTORS = word_list("cabinet car house room teacher student friend building garden hotel shop neighbor")
LINKS = ("of", "near", "beside")
TEMPLATE = "The {subject} {link} the {distractor}"
POSITIONS = ("subject", "distractor", "end")


def plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("x") else f"{noun}s"


def draw(rng: random.Random) -> Pair:
    subject, distractor, link = rng.choice(SUBJECTS), rng.choice(DISTRACTORS), rng.choice(LINKS)
    numbers = [(plural(subject), distractor, "are"), (subject, plural(distractor), "is")]
    (noun, between, verb), (other, _, wrong) = rng.sample(numbers, 2)
    return minimal_pair(
        TEMPLATE,
        {"subject": noun, "link": link, "distractor": between},
        {"subject": other},
        answer=verb,
        wrong=wrong,
        options=("is", "are"),
        positions=POSITIONS,
    )


task = Task(
    name="subject-verb-agreement",
    title="Subject-verb agreement",
    question="Does the verb agree with the subject despite a noun of the other number in between?",
    draw=draw,
    positions=POSITIONS,
    stages={"logits": "end", "mover-value": "subject", "mover-query": "end"},
    relation="distant",
)
