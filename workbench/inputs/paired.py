"""Inputs as the engine sees them: a tensor of positions each, answers, and names of positions.

An input is ``[pos, ...]``: ids of tokens, flattened patches of an image. `workbench.inputs.pairs` makes them of texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Shaped
from torch import Tensor

from workbench import arguments


@dataclass(frozen=True)
class Group:
    """Examples that may share a batch: one length and, for causal models, one first difference (0 for others).
    `members` index the whole list."""

    length: int
    first_difference: int
    members: tuple[int, ...]


@dataclass(frozen=True)
class PairedInputs:
    """Clean and corrupt inputs with their answers; entry i of every field belongs to example i.

    Attributes:
        name: the task's name; of pairs, that of their file, or "pairs".
        clean, corrupt: ``[pos, ...]`` of each example (ids ``[pos]`` of tokens, patches ``[pos, pixel]`` of an image),
            of equal shapes within an example.
        answer, wrong: ids of the right and the wrong answers, tokens or classes (several are averaged in logits,
            summed in probability). Left out, there are none: metrics that compare answers are then refused.
        options: ids of all candidates, empty where the task names none.
        positions: named positions of each example; those of a prompt have ``"end"``, the last one.
        regions: names that stand for several positions of an example, with their indices (``"patches"`` of an image);
            left out, there are none. An edit at a region is made at each of its positions.
        texts: the clean and the corrupt text, for people.
        dropped: how many sampled prompts the tokeniser's filter refused.
        bos: the beginning-of-sequence token in every prompt, or None.
        seed: the seed of the draw, None for pairs of the user's own.
        where: the place that each example comes from (``"my.csv line 3"``), for messages; left out, they are numbered.
        sources: what the clean and the corrupt input of each example were made of, such as a file's name and hash.
        info: what a result says of how the inputs were made (JSON-able).

    Examples:
        >>> model = wb.load("tiny")
        >>> inputs = wb.task("ioi", n=6).inputs(model.tokenizer)
        >>> len(inputs), inputs.clean[0].shape == inputs.corrupt[0].shape
        (6, True)
        >>> sorted(inputs.positions[0])
        ['IO', 'S1', 'S1+1', 'S2', 'end']
    """

    name: str
    clean: tuple[Shaped[Tensor, "pos *rest"], ...]
    corrupt: tuple[Shaped[Tensor, "pos *rest"], ...]
    answer: tuple[tuple[int, ...], ...] = ()
    wrong: tuple[tuple[int, ...], ...] = ()
    options: tuple[tuple[int, ...], ...] = ()
    positions: tuple[Mapping[str, int], ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    dropped: int = 0
    bos: str | None = None
    seed: int | None = None
    meta: Mapping[str, object] = field(default_factory=dict)
    where: tuple[str, ...] = ()
    regions: tuple[Mapping[str, tuple[int, ...]], ...] = ()
    sources: tuple[tuple[Mapping[str, object], Mapping[str, object]], ...] = ()
    info: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arguments.text("name", self.name)
        for name in ("clean", "corrupt"):
            rows = arguments.sequence(name, getattr(self, name), "a tensor for each example")
            if not rows or not all(isinstance(row, Tensor) and len(row) for row in rows):
                raise arguments.refusal(name, getattr(self, name), "a tensor for each example, at least one")
        for i, (clean, corrupt) in enumerate(zip(self.clean, self.corrupt, strict=False)):
            if clean.shape != corrupt.shape:
                why = f"clean[{i}] has {tuple(clean.shape)}"
                raise arguments.refusal(f"corrupt[{i}]", corrupt, "a tensor of its clean one's shape", because=why)
        for name, nothing in (("answer", ()), ("wrong", ()), ("options", ()), ("positions", {})):
            if isinstance(entries := getattr(self, name), tuple) and not entries:
                object.__setattr__(self, name, tuple(nothing for _ in self.clean))
        names = ["corrupt", "answer", "wrong", "options", "positions"]
        optional = [name for name in ("texts", "where", "sources", "regions") if _is_stated(getattr(self, name))]
        for name in [*names, *optional]:
            entries = arguments.sequence(name, getattr(self, name), "one entry for each example")
            if len(entries) != len(self.clean):
                why = f"clean has {len(self.clean)}"
                raise arguments.refusal(name, getattr(self, name), "one entry for each example", because=why)
        for name in ("answer", "wrong", "options"):
            if not all(isinstance(ids, tuple | list) and all(map(_is_id, ids)) for ids in getattr(self, name)):
                raise arguments.refusal(
                    name,
                    getattr(self, name),
                    "indices of outputs (ids of tokens or classes) for each example, [(3, 5), …]",
                )
        checked: tuple[object, int] = (None, 0)
        for i, (positions, ids) in enumerate(zip(self.positions, self.clean, strict=True)):
            if positions is checked[0] and len(ids) == checked[1]:
                continue  # inputs of one shape share their names
            checked = positions, len(ids)
            named = arguments.mapping(f"positions[{i}]", positions, "a mapping from a name to an index")
            for place, index in named.items():
                arguments.index(f"positions[{i}][{place!r}]", index, len(ids), "position")
        self._check_regions()
        if not all(isinstance(text, str) for both in self.texts for text in _entries(both)):
            raise arguments.refusal("texts", self.texts, "the clean and the corrupt text of each example")
        if not all(isinstance(place, str) for place in self.where):
            raise arguments.refusal("where", self.where, "where each example comes from, as strings")
        for i, both in enumerate(self.sources):
            if len(_entries(both)) != 2 or not all(isinstance(source, Mapping) for source in _entries(both)):
                raise arguments.refusal(f"sources[{i}]", both, "a mapping for the clean and one for the corrupt input")
        arguments.whole_number("dropped", self.dropped, at_least=0)
        if self.bos is not None:
            arguments.text("bos", self.bos, empty=True)
        arguments.whole_number("seed", self.seed, optional=True)
        arguments.mapping("meta", self.meta, "a mapping")
        arguments.mapping("info", self.info, "a mapping")

    def _check_regions(self) -> None:
        checked: tuple[object, object, int] = (None, None, 0)
        for i, (regions, positions) in enumerate(zip(self.regions, self.positions, strict=False)):
            if regions is checked[0] and positions is checked[1] and len(self.clean[i]) == checked[2]:
                continue
            checked = regions, positions, len(self.clean[i])
            named = arguments.mapping(f"regions[{i}]", regions, "a mapping from a name to indices")
            for place, indices in named.items():
                arguments.indices(f"regions[{i}][{place!r}]", indices, len(self.clean[i]), "position")
            if both := named.keys() & positions.keys():
                why = f"positions[{i}] has {min(both)!r} as well"
                raise arguments.refusal(f"regions[{i}]", regions, "names of its own", because=why)

    def __len__(self) -> int:
        return len(self.clean)

    @cached_property
    def first_difference(self) -> tuple[int, ...]:
        """First position at which clean and corrupt differ; the last position when they are equal."""
        return tuple(_first_difference(a, b) for a, b in zip(self.clean, self.corrupt, strict=True))

    def of(self, examples: Sequence[int]) -> PairedInputs:
        """Some of the examples, in that order."""
        examples = arguments.indices("examples", examples, len(self), "example", repeated=True)
        chosen = {
            name: tuple(getattr(self, name)[i] for i in examples)
            for name in ("clean", "corrupt", "answer", "wrong", "options", "positions")
        }
        optional = {
            name: tuple(getattr(self, name)[i] for i in examples) if getattr(self, name) else ()
            for name in ("texts", "where", "sources", "regions")
        }
        return replace(self, **chosen, **optional)

    def place(self, example: int) -> str:
        """What messages call an example: where it comes from, or ``"input 3"``."""
        example = arguments.index("example", example, len(self), "example")
        return self.where[example] if self.where else f"input {example + 1}"

    def swapped(self) -> PairedInputs:
        """The same pairs with their clean and corrupt runs exchanged."""
        texts, sources = (tuple((b, a) for a, b in rows) for rows in (self.texts, self.sources))
        return replace(self, clean=self.corrupt, corrupt=self.clean, texts=texts, sources=sources)

    def groups(self, at_most: int | None = None, causal: bool = True) -> list[Group]:
        """Examples of one length and, where attention is causal, one first difference, in the order met, `at_most` a
        group. Where it is not, nothing can be left out before the first difference, and one would only split batches.

        The cut depends on the list of inputs alone.
        """
        at_most = arguments.whole_number("at_most", at_most, at_least=1, optional=True)
        firsts = self.first_difference if arguments.flag("causal", causal) else [0] * len(self)
        keys = [(len(x), first) for x, first in zip(self.clean, firsts, strict=True)]
        return [
            Group(length, first, part)
            for length, first in dict.fromkeys(keys)
            for part in _parts([i for i, key in enumerate(keys) if key == (length, first)], at_most)
        ]


def _is_stated(entries: object) -> bool:
    """Whether something was given in the place of nothing."""
    return not isinstance(entries, tuple) or bool(entries)


def _entries(value: object) -> Sequence[object]:
    return value if isinstance(value, tuple | list) else [value]


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _first_difference(a: Shaped[Tensor, "pos *rest"], b: Shaped[Tensor, "pos *rest"]) -> int:
    different = torch.nonzero(a != b)
    return int(different[0, 0]) if len(different) else len(a) - 1


def _parts(members: Sequence[int], at_most: int | None) -> list[tuple[int, ...]]:
    size = at_most or max(len(members), 1)
    return [tuple(members[i : i + size]) for i in range(0, len(members), size)]
