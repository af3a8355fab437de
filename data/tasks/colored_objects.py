"""Colored Objects, one-shot, in the grammar of the circuit-reuse study (Merullo et al. 2024, arXiv 2310.08744).

Three objects in three colours are listed and one colour is the question, after one answered example. As in the study's
data the example and the question share neither objects nor colours, and answers are capitalised. The corrupt prompt
asks for another of the three objects, so nothing before the queried object differs: as in IOI the stage "mover-value"
is taken there. The options are the three colours of the question.
"""

import random

from workbench.inputs.pairs import Pair, Task

from ..templates import fill, minimal_pair
from ..words import word_list

SURFACES = ("table", "desk", "floor")
STARTS = ("there is", "you see", "I see")
OBJECTS = word_list(
    "pencil notebook pen cup plate jug mug puzzle textbook leash necklace bracelet bottle ball envelope lighter bowl"
)
COLORS = word_list("red orange yellow green blue purple brown black")
SHOT = (
    "Q: On the {surface}, {start} {article0} {color0} {object0}, {article1} {color1} {object1}, "
    "and {article2} {color2} {object2}. What color is the {query}?\nA:"
)
TEMPLATE = "{example} {example_answer}\n" + SHOT
POSITIONS = ("color", "wrong1", "wrong2", "object", "query", "end")


def _shot(rng: random.Random, colors: list[str], objects: list[str]) -> dict[str, str]:
    words = {"surface": rng.choice(SURFACES), "start": rng.choice(STARTS)}
    for i, (color, thing) in enumerate(zip(colors, objects, strict=True)):
        words |= {f"article{i}": "an" if color[0] in "aeiou" else "a", f"color{i}": color, f"object{i}": thing}
    return words


def draw(rng: random.Random) -> Pair:
    colors, objects = rng.sample(COLORS, 6), rng.sample(OBJECTS, 6)
    i = rng.randrange(3)
    example, _ = fill(SHOT, _shot(rng, colors[:3], objects[:3]) | {"query": objects[i]})
    example_answer = colors[i].title()
    colors, objects = colors[3:], objects[3:]
    queried, other, third = rng.sample(range(3), 3)
    names = {
        "color": f"color{queried}",
        "wrong1": f"color{other}",
        "wrong2": f"color{third}",
        "object": f"object{queried}",
    }
    return minimal_pair(
        TEMPLATE,
        _shot(rng, colors, objects) | {"example": example, "example_answer": example_answer, "query": objects[queried]},
        {"query": objects[other]},
        answer=colors[queried].title(),
        wrong=colors[other].title(),
        options=[color.title() for color in colors],
        positions=names | {"query": "query"},
    )


task = Task(
    name="colored-objects",
    title="Colored Objects",
    question="What colour is the object in the question?",
    draw=draw,
    positions=POSITIONS,
    stages={"logits": "end", "mover-value": "query", "mover-query": "end", "earlier": "query"},
    relation="studied",
)
