"""Greater-than (Hanna et al. 2023, arXiv 2305.00586): "The war lasted from the year 1742 to the year 17" → above 42.

The setting `digits` says how the vocabulary cuts numbers; pairs of a form that does not fit are dropped.

- ``one``: a digit is a token (SmolLM2, Gemma), so the tens digit comes next. Larger ones than the start's are right and
  smaller ones wrong. The tens digit of either prompt's own start is neither, since the units then decide.
- ``two``: two digits are a token (GPT-2), so both come next, as in the study: above the start's is right, the rest
  wrong. Unlike there, 00 to 09 are left out: GPT-2 has tokens of their own for many such years (" 1700").

Where three digits are a token (Llama 3) neither form works.

The corrupt prompt is the study's: a start year that rules nothing out, ending in 01. In the form ``one`` only its tens
digit becomes 0, so that one token differs. No start year turns right and wrong round, since a later one only rules out
more: on corrupt prompts the metric shows what the model prefers anyway. A model that always says 9 is always right, so
read the accuracy beside the difference between clean and corrupt.
"""

import random
from collections.abc import Iterable

from workbench.inputs.pairs import Pair, Task

from ..templates import fill
from ..words import word_list

CENTURIES = range(11, 18)
# Things that last; many of them are the study's.
NOUNS = word_list(
    "war siege reign trial voyage plague treaty alliance marriage friendship dispute epidemic expedition journey "
    "kingdom campaign conflict contract convention dynasty engagement exchange expansion famine invasion investigation "
    "negotiation occupation operation partnership pilgrimage project quest rebellion relationship riot rivalry rule "
    "tour tradition"
)
TEMPLATE = "The {noun} lasted from the year {XX1}{YY}{unit} to the year {XX2}"
POSITIONS = ("noun", "XX1", "YY", "end")


def _written(numbers: Iterable[int]) -> tuple[str, ...]:
    return tuple(str(number) for number in numbers)


def draw(rng: random.Random, digits: str = "one") -> Pair:
    century = str(rng.choice(CENTURIES))
    if digits == "one":
        start, unit, dummy = rng.randrange(2, 9), str(rng.randrange(10)), "0"
        answer, wrong = _written(range(start + 1, 10)), _written(range(1, start))
    else:
        start, unit, dummy = rng.randrange(10, 99), "", "01"
        answer, wrong = _written(range(start + 1, 100)), _written(range(10, start + 1))
    words = {"noun": rng.choice(NOUNS), "XX1": century, "YY": str(start), "unit": unit, "XX2": century}
    (clean, spans), (corrupt, corrupt_spans) = (fill(TEMPLATE, words | {"YY": year}) for year in (str(start), dummy))
    named = POSITIONS[:-1]
    return Pair(
        clean=clean,
        corrupt=corrupt,
        answer=answer,
        wrong=wrong,
        options=(*wrong, *answer),
        positions={name: spans[name] for name in named},
        corrupt_positions={name: corrupt_spans[name] for name in named},
    )


task = Task(
    name="greater-than",
    title="Greater-than",
    question="In which year can an event end that began in this one?",
    draw=draw,
    positions=POSITIONS,
    stages={"logits": "end", "mover-value": "YY", "mover-query": "end"},
    variants={"digits": {"one": {}, "two": {}}},
)
