"""Where an edit's values come from: the other run, zero, a mean, other prompts, given weights, or a function.

A value is taken for one example and one depth, for all positions; `workbench.patching.cone.Write` picks from it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from workbench.arguments import refusal
from workbench.errors import BadInput, UsageError
from workbench.inputs.paired import PairedInputs
from workbench.patching.recorder import Recorder

#: (depth, activation of one example ``[pos, ...]``; a pattern is ``[dest, head, src]``).
ValuesByDepth = dict[int, Shaped[Tensor, "pos *rest"]]


class Values(Protocol):
    """Values of one edit for every example."""

    def of(self, example: int) -> ValuesByDepth | Callable[[Tensor], Tensor]:
        """Values at each depth for one example, or a function of what is there."""
        ...


@dataclass
class Other:
    """Values of the same example in the other run of its pair."""

    recorder: Recorder
    source: Sequence[Tensor]
    site: str
    depths: Sequence[int]

    def of(self, example: int) -> ValuesByDepth:
        return self.recorder.site([self.source[example]], self.site, self.depths)[0]


@dataclass
class Zero:
    """Zeros."""

    def of(self, example: int) -> Callable[[Tensor], Tensor]:
        return torch.zeros_like


@dataclass
class Function:
    """A function of the activation of one prompt."""

    function: Callable[[Tensor], Tensor]

    def of(self, example: int) -> Callable[[Tensor], Tensor]:
        return self.function


@dataclass
class Mean:
    """Means over a set of inputs: per named position where the inputs have them, else per index within one length;
    over all positions together when `over_positions`."""

    recorder: Recorder
    inputs: PairedInputs
    reference: PairedInputs
    site: str
    depths: Sequence[int]
    over_positions: bool = False

    def __post_init__(self) -> None:
        self._recorded = self.recorder.site(self.reference.clean, self.site, self.depths)
        #: One mean serves every example that has the position; a length stands for "index within that length".
        self._known: dict[tuple[int, str | int | None, int], Tensor] = {}

    def of(self, example: int) -> ValuesByDepth:
        length = len(self.inputs.clean[example])
        names = {index: name for name, index in self.inputs.positions[example].items()}
        return {
            depth: torch.stack([self._once(depth, length, position, names.get(position)) for position in range(length)])
            for depth in self.depths
        }

    def _once(self, depth: int, length: int, position: int, name: str | None) -> Tensor:
        named = name is not None and any(name in positions for positions in self.reference.positions)
        key = (depth, None, 0) if self.over_positions else (depth, name, 0) if named else (depth, length, position)
        if key not in self._known:
            self._known[key] = self._mean(depth, length, position, name)
        return self._known[key]

    def _mean(self, depth: int, length: int, position: int, name: str | None) -> Tensor:
        reference = self.reference
        if self.over_positions:
            return torch.cat([acts[depth] for acts in self._recorded]).mean(0)
        named = [i for i in range(len(reference)) if name is not None and name in reference.positions[i]]
        if named:
            return torch.stack([self._recorded[i][depth][reference.positions[i][str(name)]] for i in named]).mean(0)
        same = [i for i in range(len(reference)) if len(reference.clean[i]) == length]
        if not same:
            raise BadInput(
                f"No input of the set that means are taken over has {length} tokens. Use mean_over='positions'."
            )
        return torch.stack([self._recorded[i][depth][position] for i in same]).mean(0)


@dataclass
class Resample:
    """Values of another clean prompt of the same length, drawn by seed; never the prompt itself."""

    recorder: Recorder
    inputs: PairedInputs
    site: str
    depths: Sequence[int]
    seed: int = 0

    def __post_init__(self) -> None:
        draw = random.Random(f"resample/{self.seed}")
        by_length: dict[int, list[int]] = {}
        for i, ids in enumerate(self.inputs.clean):
            by_length.setdefault(len(ids), []).append(i)
        self._partner: dict[int, int] = {}
        for length, members in by_length.items():
            if len(members) < 2:
                raise BadInput(
                    f"Resampling needs two prompts of each length, and prompt {members[0] + 1} is the only one of "
                    f"{length} tokens. Use more prompts, or edit='mean'."
                )
            shuffled = members[:]
            draw.shuffle(shuffled)
            self._partner |= dict(zip(shuffled, [*shuffled[1:], shuffled[0]], strict=True))

    def of(self, example: int) -> ValuesByDepth:
        return self.recorder.site([self.inputs.clean[self._partner[example]]], self.site, self.depths)[0]


@dataclass
class Attended:
    """A pattern row with given weights on given positions, or uniform over them, and zero elsewhere."""

    inputs: PairedInputs
    attend_to: tuple[int | str, ...] | Mapping[int | str, float]

    def __post_init__(self) -> None:
        if isinstance(self.attend_to, str | int):
            self.attend_to = (self.attend_to,)

    def weights(self, example: int) -> Float[Tensor, "src"]:
        places, length = self.attend_to, len(self.inputs.clean[example])
        share = places if isinstance(places, Mapping) else {place: 1 / len(places) for place in places}
        row = torch.zeros(length)
        if not share or not all(math.isfinite(weight) for weight in share.values()):
            raise UsageError(f"attend_to={places!r}: give at least one position, and finite weights.")
        for place, weight in share.items():
            row[position_of(self.inputs, example, place, "attend_to")] += weight
        return row

    def of(self, example: int) -> Callable[[Tensor], Tensor]:
        row = self.weights(example)
        return lambda x: row.to(x).expand_as(x)


def position_of(inputs: PairedInputs, example: int, place: int | str, argument: str = "position") -> int:
    """The index of a named position, or of an index counted from the end when negative.

    Raises:
        UsageError: the example has no such position, by the name of the `argument` that it was given for.
    """
    named, length = inputs.positions[example], len(inputs.clean[example])
    if isinstance(place, str):
        if place not in named:
            why = f"those are the named positions of prompt {example + 1}"
            raise refusal(argument, place, f"one of {', '.join(sorted(named))}", because=why)
        return named[place]
    if not -length <= place < length:
        why = f"prompt {example + 1} has {length} tokens"
        raise refusal(argument, place, f"a position from {-length} to {length - 1}", because=why)
    return place % length


def values_of(
    kind: str | Callable[[Any], Any],
    recorder: Recorder,
    inputs: PairedInputs,
    site: str,
    depths: Sequence[int],
    *,
    source: Sequence[Tensor] = (),
    attend_to: Any = None,
    mean_over: PairedInputs | str | None = None,
    seed: int = 0,
) -> Values:
    """The values of an edit of that kind (see `workbench.core.Edit`)."""
    if not isinstance(kind, str):
        return Function(kind)
    if kind == "patch":
        return Other(recorder, source, site, depths)
    if kind == "zero":
        return Zero()
    if kind == "mean":
        reference = mean_over if isinstance(mean_over, PairedInputs) else inputs
        return Mean(recorder, inputs, reference, site, depths, over_positions=mean_over == "positions")
    if kind == "resample":
        return Resample(recorder, inputs, site, depths, seed)
    return Attended(inputs, attend_to)
