"""The capital of a country. A distant relative of IOI: the answer comes from the weights, not from the prompt.

The corrupt prompt names another country. The country's token is where heads at the end read. There are 32 countries, so
more than 32 pairs repeat some of them, each time against another.
"""

import random

from workbench.inputs.pairs import Pair, Task

from ..templates import minimal_pair

CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "England": "London",
    "Ireland": "Dublin",
    "Scotland": "Edinburgh",
    "Austria": "Vienna",
    "Russia": "Moscow",
    "Japan": "Tokyo",
    "China": "Beijing",
    "Egypt": "Cairo",
    "Greece": "Athens",
    "Poland": "Warsaw",
    "Sweden": "Stockholm",
    "Norway": "Oslo",
    "Denmark": "Copenhagen",
    "Finland": "Helsinki",
    "Hungary": "Budapest",
    "Belgium": "Brussels",
    "Cuba": "Havana",
    "Peru": "Lima",
    "Chile": "Santiago",
    "Iran": "Tehran",
    "Iraq": "Baghdad",
    "Syria": "Damascus",
    "Canada": "Ottawa",
    "Australia": "Canberra",
    "Afghanistan": "Kabul",
    "Philippines": "Manila",
    "Tunisia": "Tunis",
}
TEMPLATE = "The capital of {country} is the city of"
POSITIONS = ("country", "end")


def draw(rng: random.Random) -> Pair:
    countries = rng.sample(sorted(CAPITALS), 4)
    country, other = countries[:2]
    return minimal_pair(
        TEMPLATE,
        {"country": country},
        {"country": other},
        answer=CAPITALS[country],
        wrong=CAPITALS[other],
        options=sorted(CAPITALS[name] for name in countries),
        positions=POSITIONS,
    )


task = Task(
    name="capital-of-country",
    title="Capital of a country",
    question="What is the capital of this country?",
    draw=draw,
    positions=POSITIONS,
    stages={"logits": "end", "mover-value": "country", "mover-query": "end"},
    relation="distant",
)
