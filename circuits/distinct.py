"""Different random draws: all possibilities where there are few, so that none is measured twice as if it were two."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Set
from itertools import chain, combinations, product
from typing import TypeVar

import numpy as np

from workbench.core import Head

T = TypeVar("T")


def distinct(
    draw: Callable[[], T], possible: Callable[[], Iterable[T]], total: int, n: int, known: Collection[T] = ()
) -> list[T]:
    """The first `n` different draws, in the order drawn; all that there are where these are no more.

    Args:
        possible: every value that `draw` may give, each once, and no others.
        total: how many of them are not in `known`.
        known: values that do not count.
    """
    if total <= n:
        return [value for value in possible() if value not in known]
    values: dict[T, None] = {}
    while len(values) < n:
        value = draw()
        if value not in known:
            values.setdefault(value)
    return list(values)


def random_like(heads: Set[Head], n_heads: int, draws: int, seed: int = 0) -> list[frozenset[Head]]:
    """`draws` different random sets with as many heads of each layer as `heads`, of others where the layer has enough;
    all of them where there are no more (`how_many_like`). The set `heads` itself is none of them.
    """
    rng = np.random.default_rng(seed)
    layers = _choices(heads, n_heads)

    def draw() -> frozenset[Head]:
        chosen: list[Head] = []
        for layer, (among, size) in layers.items():
            chosen += [Head(layer, int(i)) for i in rng.choice(among, size, replace=False)]
        return frozenset(chosen)

    def possible() -> Iterator[frozenset[Head]]:
        each = [[(layer, at) for at in combinations(among, size)] for layer, (among, size) in layers.items()]
        for choice in product(*each):
            yield frozenset(Head(layer, index) for layer, indices in choice for index in indices)

    return distinct(draw, possible, how_many_like(heads, n_heads), draws, (frozenset(heads),))


def how_many_like(heads: Set[Head], n_heads: int) -> int:
    """How many different sets `random_like` can give: the product over layers of (heads to choose among, heads chosen),
    less `heads` itself where it could be drawn."""
    layers = _choices(heads, n_heads)
    sets = math.prod(math.comb(len(among), size) for among, size in layers.values())
    itself = all(len(among) == n_heads for among, _ in layers.values())
    return sets - itself


def random_halves(
    heads: Collection[Head], draws: int, rng: np.random.Generator, known: Collection[frozenset[Head]] = ()
) -> list[frozenset[Head]]:
    """`draws` different random subsets, each head in or out with probability 1/2; all of them where there are no more.

    Neither no heads nor all of them is such a subset, nor is one of `known`.
    """
    ordered = sorted(heads)

    def draw() -> frozenset[Head]:
        half = rng.random(len(ordered)) < 0.5
        return frozenset(head for head, inside in zip(ordered, half, strict=True) if inside)

    def possible() -> Iterator[frozenset[Head]]:
        sizes = (combinations(ordered, size) for size in range(len(ordered) + 1))
        return map(frozenset, chain.from_iterable(sizes))

    return distinct(draw, possible, how_many_halves(heads, known), draws, _no_halves(heads, known))


def how_many_halves(heads: Collection[Head], known: Collection[frozenset[Head]] = ()) -> int:
    """How many different subsets `random_halves` can give."""
    return 2 ** len(heads) - len(_no_halves(heads, known))


def _no_halves(heads: Collection[Head], known: Collection[frozenset[Head]]) -> set[frozenset[Head]]:
    return {frozenset(), frozenset(heads), *known}


def _choices(heads: Set[Head], n_heads: int) -> dict[int, tuple[list[int], int]]:
    """Layer → the heads to choose among, and how many: others than `heads` where the layer has enough of them."""
    layers: dict[int, list[int]] = {}
    for head in sorted(heads):
        layers.setdefault(head.layer, []).append(head.index)
    choices = {}
    for layer, indices in layers.items():
        others = [i for i in range(n_heads) if i not in indices]
        choices[layer] = (others if len(others) >= len(indices) else list(range(n_heads)), len(indices))
    return choices
