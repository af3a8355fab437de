"""The arguments that a layer was called with, besides the stream, for other rows and positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any

from jaxtyping import Int
from torch import Tensor
from transformers.cache_utils import Cache

from workbench.errors import UnsupportedModel

if TYPE_CHECKING:
    from workbench.models.resumable_layers import LayersRun

#: Positional and keyword arguments.
Call = tuple[tuple[Any, ...], dict[str, Any]]


class UnknownArgument(UnsupportedModel):
    """A layer takes a per-position argument that cannot be cut to positions."""


def without_mask(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments without the stream, and without the mask: a resumed layer takes that from what the base run's
    attention saw."""
    named = {name: None if name == "attention_mask" else value for name, value in kwargs.items()}
    named.pop("hidden_states", None)
    return named


def without_caches(value: Any) -> Any:
    """A module's arguments with every cache left out, to call it once more."""
    return each_tensor(value, lambda _, x: x)


def each_tensor(value: Any, change: Callable[[int, Tensor], Tensor | None], every: bool = False) -> Any:
    """Arguments with every tensor changed, by its number in order, and every cache left out.

    Raises:
        UnknownArgument: with `every`, where an object holds tensors: these cannot be changed.
    """
    numbers = count()

    def changed(value: Any) -> Any:
        if isinstance(value, Cache):
            return None
        if isinstance(value, Tensor):
            return change(next(numbers), value)
        if isinstance(value, tuple | list):
            return type(value)(changed(item) for item in value)
        if isinstance(value, Mapping):
            return {name: changed(item) for name, item in value.items()}
        if every and any(isinstance(item, Tensor) for item in getattr(value, "__dict__", {}).values()):
            raise UnknownArgument(f"A layer takes a {type(value).__name__} that holds tensors, which cannot be cut.")
        return value

    return changed(value)


def cut_argument(x: Tensor, base: LayersRun, rows: Int[Tensor, "row"], positions: slice, of_rows: bool) -> Tensor:
    """The positions of an argument ``[pos]`` or ``[1 or input, pos, ...]``, and the rows' own entries of one with an
    entry for each input; any other argument is the same for all.

    Args:
        of_rows: whether the argument has an entry for each input (`row_arguments`).
    """
    if base.length not in x.shape or (of_rows and (x.ndim == 1 or x.shape[1] != base.length)):
        return x[rows] if of_rows and base.size > 1 else x
    if x.ndim == 1:
        return x[positions]
    if x.shape[1] != base.length:
        raise UnknownArgument(f"A layer takes an argument of shape {tuple(x.shape)} that cannot be sliced by position.")
    x = x[:, positions]
    return x[rows] if of_rows and base.size > 1 else x


def row_arguments(one: LayersRun, larger: LayersRun) -> dict[int, frozenset[int]]:
    """By layer, the numbers of the arguments whose first axis grew with the number of inputs, between two base runs."""

    def sizes(call: Call) -> list[int]:
        first: list[int] = []
        each_tensor(call, lambda _, x: first.append(x.shape[0] if x.ndim else 0))
        return first

    return {
        layer: frozenset(
            number
            for number, (before, after) in enumerate(zip(sizes(a), sizes(b), strict=True))
            if (before, after) == (one.size, larger.size)
        )
        for layer, (a, b) in enumerate(zip(one.calls, larger.calls, strict=True))
    }
