"""Where an edit's values come from: the other run, a mean, other inputs, attention weights, or the activation itself
(zero, scaled, moved by a vector or towards the identity, or by a function).

A value is computed for one example and one depth, at all positions; `workbench.patching.cone.Write` picks from it.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from workbench.arguments import refusal
from workbench.errors import BadInput, UsageError
from workbench.inputs.paired import PairedInputs
from workbench.models.precision import at_least_float32
from workbench.patching.cone import EachPosition
from workbench.patching.notice import notice_lone
from workbench.patching.recorder import Recorder

#: (depth, activation of one example ``[pos, ...]``; a pattern is ``[dest, head, src]``).
ValuesByDepth = dict[int, Shaped[Tensor, "pos *rest"]]


class Values(Protocol):
    """Values of one edit for every example."""

    def of(self, example: int) -> ValuesByDepth | Callable[[Tensor], Tensor]:
        """Values at each depth for one example, or a function of the activation."""
        ...


@dataclass
class OtherRun:
    """Values of the same example in the other run of its pair."""

    recorder: Recorder
    source: Sequence[Tensor]
    site: str
    depths: Sequence[int]

    def of(self, example: int) -> ValuesByDepth:
        return self.recorder.site([self.source[example]], self.site, self.depths)[0]


@dataclass
class Changed:
    """Each position's own activation, changed in the same way in every example."""

    change: Callable[[Tensor, Tensor], Tensor]

    def of(self, example: int) -> EachPosition:
        return EachPosition(self.change)


def zero(x: Tensor, _: Tensor) -> Tensor:
    """Zeros."""
    return torch.zeros_like(x)


def scaled(factor: float) -> Callable[[Tensor, Tensor], Tensor]:
    """``x · factor``."""
    return lambda x, _: x * factor


def moved(vector: Shaped[Tensor, "*rest"]) -> Callable[[Tensor, Tensor], Tensor]:
    """``x + vector``.

    Raises:
        UsageError: a position's activation has another shape.
    """

    def add(x: Shaped[Tensor, "pos *rest"], _: Tensor) -> Shaped[Tensor, "pos *rest"]:
        expected = x.shape[x.ndim - vector.ndim :]
        if x.ndim <= vector.ndim or vector.shape != expected:
            what = f"a tensor of shape {tuple(expected)}"
            raise refusal("vector", vector, what, because="that is the shape of one position at this site")
        return x + vector.to(x)

    return add


@dataclass
class Identity:
    """Attention rows moved towards the identity: row i becomes ``(1 − u) · row + u · onehot(i)``. At u = 1 each
    position sees itself alone, so that z = v (perturbed-attention guidance; Ahn et al. 2024, arXiv 2403.17377)."""

    inputs: PairedInputs
    u: float

    def of(self, example: int) -> EachPosition:
        length = len(self.inputs.clean[example])

        def toward_identity(x: Float[Tensor, "dest *head src"], positions: Tensor) -> Float[Tensor, "dest *head src"]:
            if x.shape[-1] != length:
                why = f"a row has {x.shape[-1]} sources where the input has {length} positions"
                raise refusal("u", self.u, "rows in which position i is source i", because=why)
            own = torch.nn.functional.one_hot(positions, length).to(x)
            return (1 - self.u) * x + self.u * own.view(len(x), *[1] * (x.ndim - 2), length)

        return EachPosition(toward_identity)


@dataclass
class Function:
    """A function of the activation of one input."""

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
        if self.reference is self.inputs and not self.over_positions:
            _others_of_its_length(self.inputs)
        self._recorded = self.recorder.site(self.reference.clean, self.site, self.depths)
        #: One mean serves every example that has the position; a length stands for "index within that length".
        self._means: dict[tuple[int, str | int | None, int], Tensor] = {}

    def of(self, example: int) -> ValuesByDepth:
        length = len(self.inputs.clean[example])
        names = {index: name for name, index in self.inputs.positions[example].items()}
        return {
            depth: torch.stack(
                [self._mean_at(depth, length, position, names.get(position)) for position in range(length)]
            )
            for depth in self.depths
        }

    def _mean_at(self, depth: int, length: int, position: int, name: str | None) -> Tensor:
        named = name is not None and any(name in positions for positions in self.reference.positions)
        key = (depth, None, 0) if self.over_positions else (depth, name, 0) if named else (depth, length, position)
        if key not in self._means:
            self._means[key] = self._mean(depth, length, position, name)
        return self._means[key]

    def _mean(self, depth: int, length: int, position: int, name: str | None) -> Tensor:
        reference = self.reference
        if self.over_positions:
            return mean_of(torch.cat([acts[depth] for acts in self._recorded]))
        named = [i for i in range(len(reference)) if name is not None and name in reference.positions[i]]
        if named:
            return mean_of(torch.stack([self._recorded[i][depth][reference.positions[i][str(name)]] for i in named]))
        same = [i for i in range(len(reference)) if len(reference.clean[i]) == length]
        if not same:
            raise BadInput(f"There is no input of {length} positions to take the mean over. Use mean_over='positions'.")
        return mean_of(torch.stack([self._recorded[i][depth][position] for i in same]))


def _others_of_its_length(inputs: PairedInputs) -> None:
    """A mean over the inputs themselves needs another input of the same length, or with a position of the same name.

    Raises:
        BadInput: an input has neither: its mean would be its own activation.
    """
    lengths = Counter(map(len, inputs.clean))
    names = Counter(name for positions in inputs.positions for name in positions)
    do = "Use mean_over='positions', or give other inputs as mean_over."
    for i, (row, positions) in enumerate(zip(inputs.clean, inputs.positions, strict=True)):
        if lengths[len(row)] > 1:
            continue
        alone = f"{inputs.where[i] if inputs.where else f'Input {i + 1}'} is the only one of {len(row)} positions"
        if not any(names[name] > 1 for name in positions):
            raise BadInput(f"{alone}, so the mean there is its own activation and would change nothing. {do}")
        if inputs.seed is None:  # of a task the named positions are what counts
            notice_lone(f"{alone}: a mean changes it at named positions alone ({', '.join(positions)}). {do}")


def mean_of(activations: Shaped[Tensor, "n *rest"]) -> Shaped[Tensor, "*rest"]:
    """Their mean, computed at least in float32, in their own precision."""
    return at_least_float32(activations).mean(0).to(activations.dtype)


@dataclass
class Resample:
    """Values of another clean input of the same length, drawn by seed; never the input itself."""

    recorder: Recorder
    inputs: PairedInputs
    site: str
    depths: Sequence[int]
    seed: int = 0

    def __post_init__(self) -> None:
        generator = random.Random(f"resample/{self.seed}")
        by_length: dict[int, list[int]] = {}
        for i, ids in enumerate(self.inputs.clean):
            by_length.setdefault(len(ids), []).append(i)
        self._partner: dict[int, int] = {}
        for length, members in by_length.items():
            if len(members) < 2:
                alone = f"{self.inputs.place(members[0])} is the only one of {length} positions"
                raise BadInput(f"Resample ablation needs two inputs of each length, and {alone}. Use more inputs.")
            shuffled = members[:]
            generator.shuffle(shuffled)
            self._partner |= dict(zip(shuffled, [*shuffled[1:], shuffled[0]], strict=True))

    def of(self, example: int) -> ValuesByDepth:
        return self.recorder.site([self.inputs.clean[self._partner[example]]], self.site, self.depths)[0]


@dataclass
class AttentionWeights:
    """A pattern row with the weights of `attend_to` on its positions, or uniform over them, and zero elsewhere."""

    inputs: PairedInputs
    attend_to: tuple[int | str, ...] | Mapping[int | str, float]

    def __post_init__(self) -> None:
        if isinstance(self.attend_to, str | int):
            self.attend_to = (self.attend_to,)

    def weights(self, example: int) -> Float[Tensor, "src"]:
        positions, length = self.attend_to, len(self.inputs.clean[example])
        row = torch.zeros(length)
        if not positions or (isinstance(positions, Mapping) and not all(map(math.isfinite, positions.values()))):
            raise UsageError(f"attend_to={positions!r}: expected at least one position, and finite weights.")
        if isinstance(positions, Mapping):
            for position, weight in positions.items():
                row[position_of(self.inputs, example, position, "attend_to")] += weight
        else:
            shared = indices_of(self.inputs, example, positions, "attend_to")
            row[list(shared)] = 1 / len(shared)
        return row

    def of(self, example: int) -> Callable[[Tensor], Tensor]:
        row = self.weights(example)
        return lambda x: row.to(x).expand_as(x)


def position_of(inputs: PairedInputs, example: int, position: int | str, argument: str = "position") -> int:
    """The index of a named position, or of an index counted from the end when negative.

    Raises:
        UsageError: the example has no such position, or the name is that of a region; named as the `argument` that
            holds it.
    """
    index = _place(inputs, example, position, argument)
    if isinstance(index, tuple):
        why = f"{position!r} stands for {len(index)} positions of {inputs.place(example)}"
        raise refusal(argument, position, "one position", because=why)
    return index


def indices_of(
    inputs: PairedInputs, example: int, positions: Iterable[int | str], argument: str = "positions"
) -> tuple[int, ...]:
    """The indices that positions and regions stand for, each once.

    Raises:
        UsageError: the example has no such position, named as the `argument` that holds it.
    """
    places = [_place(inputs, example, position, argument) for position in positions]
    return tuple(dict.fromkeys(i for place in places for i in (place if isinstance(place, tuple) else (place,))))


def default_position(inputs: PairedInputs) -> str:
    """Where paths start unless one says it: at the end of prompts, at the class token of images.

    Raises:
        UsageError: the inputs name neither.
    """
    for name in ("end", "cls"):
        if all(name in positions for positions in inputs.positions):
            return name
    why = "these inputs name neither 'end' nor 'cls', which are the defaults"
    raise refusal("position", None, "a named position or an index", because=why)


def _place(inputs: PairedInputs, example: int, position: int | str, argument: str) -> int | tuple[int, ...]:
    """The index of a position, or the indices of a region."""
    named, length = inputs.positions[example], len(inputs.clean[example])
    if isinstance(position, str):
        if inputs.regions and position in inputs.regions[example]:
            return inputs.regions[example][position]
        if position not in named:
            raise _unknown_position(inputs, example, position, argument)
        return named[position]
    if not -length <= position < length:
        why = f"{inputs.place(example)} has {length} positions"
        raise refusal(argument, position, f"a position from {-length} to {length - 1}", because=why)
    return position % length


def _unknown_position(inputs: PairedInputs, example: int, position: str, argument: str) -> UsageError:
    """The refusal of a name that the example has no position of, with the names that it has: regions first."""
    regions = list(inputs.regions[example]) if inputs.regions else []
    names = [*regions, *sorted(inputs.positions[example])]
    facts = set(inputs.sources[example][0]) if inputs.sources else set()
    if not names:
        return refusal(argument, position, "an index", because=f"{inputs.place(example)} has no named positions")
    why = f"those are the named positions of {inputs.place(example)}"
    do = "An index, such as -1, works too."
    if "class" in facts and not regions and "class" in position:  # one of the passes of guidance
        why, do = "without guidance there is one pass only", "Leave it out, or sample with guidance."
        return refusal(argument, position, f"a patch, such as {names[0]}", do, because=why)
    if facts:
        do += " Patches are named by row and column from 0."
    elif inputs.seed is None:  # pairs of one's own
        do += " Pairs can name positions: wb.pairs(..., positions=[{'NAME': 'a word'}, ...])."
    return refusal(argument, position, f"one of {', '.join(names)}", do, because=why)


def values_of(
    kind: str | Callable[[Any], Any],
    recorder: Recorder,
    inputs: PairedInputs,
    site: str,
    depths: Sequence[int],
    *,
    source: Sequence[Tensor] = (),
    attend_to: Any = None,
    factor: float | None = None,
    vector: Tensor | None = None,
    u: float | None = None,
    mean_over: PairedInputs | str | None = None,
    seed: int = 0,
) -> Values:
    """The values of an edit of that kind, with the argument that the kind takes (see `workbench.core.Edit`)."""
    if not isinstance(kind, str):
        return Function(kind)
    if kind == "patch":
        return OtherRun(recorder, source, site, depths)
    if kind == "zero":
        return Changed(zero)
    if kind == "scale" and factor is not None:
        return Changed(scaled(factor))
    if kind == "add" and vector is not None:
        return Changed(moved(vector))
    if kind == "identity" and u is not None:
        return Identity(inputs, u)
    if kind == "mean":
        reference = mean_over if isinstance(mean_over, PairedInputs) else inputs
        return Mean(recorder, inputs, reference, site, depths, over_positions=mean_over == "positions")
    if kind == "resample":
        return Resample(recorder, inputs, site, depths, seed)
    return AttentionWeights(inputs, attend_to)
