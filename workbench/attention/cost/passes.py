"""How many passes over the keys a computation needs, however its loops are ordered and fused.

A computation is a *cascade*: Einsums in order, one a line, each an output, ``=``, and what it reads. Its keys have two
ranks: ``m1`` counts tiles, ``m0`` the keys of a tile::

    QK[p,m1,m0] = Q[p,e] K[m1,m0,e]
    RM[p,m1]    = max(RM[p,m1-1], max QK[p,m1,m0])
    AV[p,f]     = RNV[p,M1,f] / RD[p,M1]

``m1-1`` is the tile before: RM is a running value. A capital is one fixed place: ``RM[p,M1]`` is its last value.
Functions and operators are for the reader: passes depend on what is read, not on what is done with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.errors import BadInput

#: The ranks of the keys: tiles, and keys of a tile.
KEYS = ("m1", "m0")
#: The same of queries, where they are cut into tiles.
QUERIES = ("p1", "p0")
_TENSOR = re.compile(r"([A-Za-z]\w*)\[([^\[\]]*)\]")
_INDEX = re.compile(r"(?:(?P<rank>[a-z]\w*)(?P<shift>[+-]\d+)?|[A-Z]\w*|\d+)$")


@dataclass(frozen=True)
class Read:
    """A tensor where an Einsum reads or writes it. ``QK[p,m1-1,M0]`` has the ranks p and m1, of which m1 is shifted."""

    tensor: str
    ranks: frozenset[str]
    shifted: frozenset[str]
    n_indices: int


@dataclass(frozen=True)
class Einsum:
    """One line of a cascade."""

    text: str
    output: Read
    inputs: tuple[Read, ...]

    @property
    def ranks(self) -> frozenset[str]:
        """What it iterates over: the ranks of its output and inputs."""
        return self.output.ranks.union(*(read.ranks for read in self.inputs))


@dataclass(frozen=True)
class Level:
    """Where a tensor stands in a cascade.

    Attributes:
        passes: how many passes over the fibre it takes to have it.
        streams: whether it is there tile by tile, as the fibre is traversed; else at the end of pass `passes`.
        family: the tensors with the fibre's ranks, from outside, that it depends on.
    """

    passes: int
    streams: bool
    family: frozenset[str]


def einsums(cascade: str) -> tuple[Einsum, ...]:
    """The lines of a cascade; blank lines and what follows ``#`` are skipped.

    Raises:
        BadInput: a line that is no Einsum, a tensor with another number of indices than before or written twice, or
            one that is read before it is written, other than at a previous place.
    """
    lines = [line for text in cascade.splitlines() if (line := text.partition("#")[0].strip())]
    result = tuple(map(_einsum, lines))
    written = [einsum.output.tensor for einsum in result]
    sizes: dict[str, int] = {}
    for at, einsum in enumerate(result):
        if einsum.output.tensor in written[:at]:
            raise BadInput(f"{einsum.text!r}: expected a tensor that is written once. Give {written[at]} another name.")
        for read in (einsum.output, *einsum.inputs):
            if sizes.setdefault(read.tensor, read.n_indices) != read.n_indices:
                expected = f"{sizes[read.tensor]} indices of {read.tensor}, as in the lines before"
                raise BadInput(f"{einsum.text!r}: expected {expected}, not {read.n_indices}.")
        for read in einsum.inputs:
            if read.tensor in written[at:] and not read.shifted:
                raise BadInput(f"{einsum.text!r}: {read.tensor} is written later. Move that line up.")
    return result


def levels(cascade: str | Sequence[Einsum], fibre: Sequence[str] = KEYS) -> dict[str, Level]:
    """The level of every tensor of a cascade.

    Externals with a rank of the fibre have level (1, streams, {itself}), the others (0, at once, {}). For each Einsum:

    - It iterates over all of the fibre's ranks: its level is the largest among its inputs, where one that is only
      there at the end of pass n > 0 counts n + 1 if it shares a family with the inputs that stream (the same elements
      are read again), else 1. Its output streams if it keeps the first rank of the fibre.
    - It iterates over the first rank only, one value a tile: the largest level among its inputs, without a pass of its
      own. Its output streams if it keeps that rank and none of its inputs waits for the end of a pass.
    - It does not iterate over the first rank: the largest level among its inputs, at the end of that pass.

    The family of an output is the union of its inputs'. A value at a previous place of the fibre is a running value and
    has the level of the tensor; one at a previous place of another rank comes from outside.

    Args:
        cascade: its lines, or `einsums` of them.
        fibre: the ranks that make up the fibre, the outermost first; ``("m0",)`` counts passes inside a tile.

    Raises:
        BadInput: as `einsums` does; or a running value that needs the end of its own pass.

    Source:
        Nayak et al. 2024, FuseMax, arXiv 2406.10491, sections II-C to IV-E (the definition of a pass).
    """
    lines = einsums(cascade) if isinstance(cascade, str) else tuple(cascade)
    whole = frozenset(fibre)
    result: dict[str, Level] = {}
    for _ in range(len(lines) + 2):  # a running value may be read before its line: again until nothing changes
        before = dict(result)
        for line in lines:
            result[line.output.tensor] = _level(line, result, {e.output.tensor for e in lines}, fibre, whole)
        if result == before:
            return result
    raise BadInput("cascade: a running value depends on the end of its own pass. Write it without the previous place.")


def passes(cascade: str | Sequence[Einsum], fibre: Sequence[str] = KEYS) -> int:
    """The number of passes over the fibre: the largest level of an Einsum that iterates over all of it; 0 if none does.

    Another pass is needed when an element must be read again after a value that depends on the whole fibre.

    Examples:
        >>> from workbench.attention.cost.passes import passes
        >>> passes("Y[] = A[m1,m0] B[m1,m0]")
        1
        >>> passes("Y[] = A[m1,m0] B[m1,m0]\\nZ[m1,m0] = Y[] A[m1,m0]")  # A again, once Y is complete
        2
    """
    lines = einsums(cascade) if isinstance(cascade, str) else tuple(cascade)
    level = levels(lines, fibre)
    return max((level[line.output.tensor].passes for line in lines if line.ranks.issuperset(fibre)), default=0)


def _einsum(text: str) -> Einsum:
    left, equals, right = text.partition("=")
    outputs = [_read(match, text) for match in _TENSOR.finditer(left)]
    if not equals or len(outputs) != 1 or _TENSOR.sub("", left).strip() or outputs[0].shifted:
        raise BadInput(f"{text!r}: expected an Einsum, such as 'QK[p,m1,m0] = Q[p,e] K[m1,m0,e]'.")
    return Einsum(text, outputs[0], tuple(_read(match, text) for match in _TENSOR.finditer(right)))


def _read(match: re.Match[str], text: str) -> Read:
    tensor, indices = match[1], match[2]
    entries = [entry.strip() for entry in indices.split(",")] if indices.strip() else []
    matches = [_INDEX.match(entry) for entry in entries]
    if not all(matches):
        wrong = next(entry for entry, match in zip(entries, matches, strict=True) if match is None)
        raise BadInput(f"{text!r}: expected indices such as m0, m1-1 or M1, not {wrong!r}.")
    named = [match for match in matches if match and match["rank"]]
    shifted = frozenset(match["rank"] for match in named if match["shift"])
    return Read(tensor, frozenset(match["rank"] for match in named), shifted, len(entries))


def _level(
    line: Einsum, known: dict[str, Level], written: set[str], fibre: Sequence[str], whole: frozenset[str]
) -> Level:
    inputs = [_level_of(read, known, written, whole) for read in line.inputs]
    family = frozenset[str]().union(*(level.family for level in inputs))
    largest = max((level.passes for level in inputs), default=0)
    keeps = fibre[0] in line.output.ranks
    if line.ranks >= whole:
        streamed = frozenset[str]().union(*(level.family for level in inputs if level.streams))
        return Level(max((_when_read(level, streamed) for level in inputs), default=0), keeps, family)
    if fibre[0] in line.ranks:
        return Level(largest, keeps and all(level.streams or not level.passes for level in inputs), family)
    return Level(largest, False, family)


def _level_of(read: Read, known: dict[str, Level], written: set[str], whole: frozenset[str]) -> Level:
    if read.shifted and not read.shifted & whole:
        return Level(0, False, frozenset())
    if read.tensor in written:
        return known.get(read.tensor, Level(0, True, frozenset()))
    return Level(1, True, frozenset({read.tensor})) if read.ranks & whole else Level(0, False, frozenset())


def _when_read(level: Level, streamed: frozenset[str]) -> int:
    """The pass in which an input is there for an Einsum that iterates over the whole fibre."""
    if level.streams or not level.passes:
        return level.passes
    return level.passes + 1 if level.family & streamed else 1
