"""The prompts that the tiny model learns, and those that it is tested on."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ...tasks.colored_objects import COLORS, OBJECTS, SURFACES
from .recipe import HELD_OUT_EACH, HELD_OUT_SEEDS, LIKE, TASKS

#: Draws two prompts.
Draw = Callable[[random.Random], tuple["Example", "Example"]]


@dataclass(frozen=True)
class Example:
    """A prompt, and the answers that are right after it."""

    text: str
    answers: tuple[str, ...]


def colored_objects_like(rng: random.Random) -> tuple[Example, Example]:
    """Three objects, each followed by its colour; one of them again: which colour follows? And the same for another."""
    objects, colors = rng.sample(OBJECTS, 3), rng.sample(COLORS, 3)
    pairs = [f"{thing} {color}" for thing, color in zip(objects, colors, strict=True)]
    start = f"On the {rng.choice(SURFACES)}, there is {pairs[0]}, {pairs[1]}, and {pairs[2]}. The"
    clean, corrupt = (Example(f"{start} {objects[i]}", (f" {colors[i]}",)) for i in rng.sample(range(3), 2))
    return clean, corrupt


def draws() -> dict[str, Draw]:
    """Name → its function that draws two prompts, for each of `TASKS` and for the short coloured objects."""

    def both_prompts(draw: Callable[[random.Random], Any]) -> Draw:
        """The clean and the corrupt prompt of a pair: the right answer to the corrupt one is the pair's wrong one."""

        def draw_both(rng: random.Random) -> tuple[Example, Example]:
            pair = draw(rng)
            return Example(pair.clean, pair.answer), Example(pair.corrupt, pair.wrong)

        return draw_both

    modules = {name: importlib.import_module(f"...tasks.{name.replace('-', '_')}", __package__) for name in TASKS}
    return {name: both_prompts(module.task.draw) for name, module in modules.items()} | {LIKE: colored_objects_like}


def examples(draw: Draw, rng: random.Random) -> Iterator[Example]:
    """Prompts without end."""
    while True:
        yield from draw(rng)


def first(stream: Iterator[Example], n: int, without: frozenset[str] = frozenset()) -> list[Example]:
    """The first n prompts that are not among the texts `without`."""
    return [example for example, _ in zip((e for e in stream if e.text not in without), range(n), strict=False)]


def held_out(name: str, draw: Draw) -> list[Example]:
    """Prompts of the task's numbered seeds, drawn as the workbench draws them."""
    streams = [examples(draw, random.Random(f"{name}/{seed}")) for seed in HELD_OUT_SEEDS]
    return [example for stream in streams for example in first(stream, HELD_OUT_EACH)]
