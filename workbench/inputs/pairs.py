"""Prompt pairs: a task that draws them, or the user's own, and how they become tokenised inputs.

A *pair* is a clean and a corrupt prompt of equal token length with a right and a wrong answer of one token each.
Nothing here imports torch: that happens in `Task.inputs` and `Pairs.inputs`, which need a tokeniser anyway.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import arguments
from workbench.errors import BadInput, UnknownName, UsageError
from workbench.inputs.files import read_rows
from workbench.inputs.rows import Pair, PairNotice, pair_from_row
from workbench.registry import TASKS

if TYPE_CHECKING:
    from datasets import Dataset

    from workbench.inputs.paired import PairedInputs
    from workbench.inputs.tokenising import Encoded

__all__ = ["Pair", "Pairs", "Task", "pairs", "read_pairs", "task"]

#: A task does not apply to a tokeniser that drops more than this share of so many different pairs.
MOST_DROPPED, TRIAL = 0.95, 400
#: More pairs than anybody measures; a larger number is a mistake.
MOST_PAIRS = 100_000
#: So many draws in a row without a new pair mean that the task has no more to give.
STALE = 2000


@dataclass(frozen=True)
class Task:
    """A generator of prompt pairs, deterministic by seed.

    ``draw(rng, **settings)`` returns one `Pair`. Pairs never repeat: a duplicate is skipped and not counted as dropped,
    and a task with fewer than `n` different pairs for a tokeniser raises an error. The first pairs of a larger sample
    are those of a smaller one with the same seed.

    Attributes:
        name: the name of its file in ``data/tasks``.
        title: a few words for headings.
        question: what the model has to do, in a sentence.
        draw: makes one pair from a `random.Random` and the settings.
        n: how many pairs are sampled, after the tokeniser's filter.
        seed: seeds the draw together with the name.
        positions: the named positions that every pair has; ``"end"``, the last token, is among them.
        stages: path-patching stage → the named position at which its senders are patched. Stages that the task does
            not have are left out.
        relation: to IOI, declared before looking: ``"ioi"``, ``"near"``, ``"distant"``, ``"studied"`` (the task that
            the reuse study compares with it) or ``"other"``.
        variants: setting → its values → fields of the task that change with it. The first value is the default.
        settings: the values chosen, by `task`.

    Examples:
        >>> task = wb.task("ioi", n=6)
        >>> task.title, task.relation
        ('Indirect object identification', 'ioi')
        >>> len(task.examples()), task.positions
        (6, ('IO', 'S1', 'S1+1', 'S2', 'end'))
    """

    name: str
    title: str
    question: str
    draw: Callable[..., Pair]
    n: int = 25
    seed: int = 0
    positions: tuple[str, ...] = ("end",)
    stages: Mapping[str, str] = field(default_factory=dict)
    relation: str = "other"
    variants: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("name", "title", "question", "relation"):
            arguments.text(name, getattr(self, name), empty=name != "name")
        arguments.function("draw", self.draw, optional=False)
        object.__setattr__(self, "n", arguments.whole_number("n", self.n, at_least=1, at_most=MOST_PAIRS))
        object.__setattr__(self, "seed", arguments.whole_number("seed", self.seed, at_least=0))
        object.__setattr__(self, "positions", arguments.texts("positions", self.positions, "names"))
        for name in ("stages", "settings"):
            _check_texts_by_name(name, getattr(self, name))
        for setting, values in arguments.mapping("variants", self.variants, "a mapping from a setting").items():
            for value, changes in arguments.mapping("variants", values, f"the values of {setting!r}").items():
                arguments.mapping("variants", changes, f"the fields that {setting}={value!r} changes, as a mapping")

    def _new_pairs(self) -> Iterator[Pair]:
        """Different pairs in the order sampled; ends when the task seems to have no more."""
        rng, seen, stale = random.Random(f"{self.name}/{self.seed}"), set(), 0
        while stale < STALE:
            pair = self.draw(rng, **self.settings)
            stale += 1
            if (pair.clean, pair.corrupt) not in seen:
                seen.add((pair.clean, pair.corrupt))
                stale = 0
                yield pair

    def _too_few(self, available: int) -> UsageError:
        return UsageError(
            f"Task {self.name!r} has only {available} different pairs here, and n={self.n} were requested. "
            f"Use n={available} or fewer."
        )

    def _encoded_pairs(self, tokenizer: Any, max_length: int | None) -> tuple[list[Pair], list[Encoded], int]:
        """The first n pairs that the tokeniser's filter keeps, their ids, and how many were dropped on the way."""
        from workbench.inputs.tokenising import encode

        pairs: list[Pair] = []
        encoded: list[Encoded] = []
        dropped, reason = 0, ""
        for pair in self._new_pairs():
            try:
                encoded.append(encode(pair, tokenizer, max_length))
                pairs.append(pair)
            except BadInput as error:
                dropped, reason = dropped + 1, reason or str(error)
            if len(pairs) == self.n:
                return pairs, encoded, dropped
            if dropped + len(pairs) >= TRIAL and dropped > MOST_DROPPED * (dropped + len(pairs)):
                break
        if dropped > MOST_DROPPED * (dropped + len(pairs)):
            raise BadInput(
                f"Task {self.name!r} does not apply to this tokeniser: {dropped} of {dropped + len(pairs)} pairs were "
                f"dropped. The first reason: {reason}"
            )
        raise self._too_few(len(pairs))

    def applies(self, tokenizer: Any) -> str | None:
        """None when the task works with this tokeniser, else the reason why not."""
        check_tokenizer(tokenizer)
        try:
            replace(self, n=min(self.n, 10))._encoded_pairs(tokenizer, None)
        except (BadInput, UsageError) as error:
            return str(error)
        return None

    def examples(self, tokenizer: Any = None) -> tuple[Pair, ...]:
        """The n pairs as text: those that pass `tokenizer`'s filter, or the first n without one."""
        if tokenizer is not None:
            return tuple(self._encoded_pairs(check_tokenizer(tokenizer), None)[0])
        pairs = [pair for _, pair in zip(range(self.n), self._new_pairs(), strict=False)]
        if len(pairs) < self.n:
            raise self._too_few(len(pairs))
        return tuple(pairs)

    def inputs(self, tokenizer: Any, max_length: int | None = None) -> PairedInputs:
        """Token ids of n pairs, those that do not fit the tokeniser being dropped and counted.

        Raises:
            BadInput: more than 95 % of 400 different pairs were dropped (with the first reason).
            UsageError: the task has fewer than n different pairs for this tokeniser.
        """
        from workbench.inputs.tokenising import gather

        check_tokenizer(tokenizer)
        max_length = arguments.whole_number("max_length", max_length, at_least=1, optional=True)
        pairs, encoded, dropped = self._encoded_pairs(tokenizer, max_length)
        meta = {"settings": dict(self.settings), "stages": dict(self.stages), "relation": self.relation}
        return gather(self.name, pairs, encoded, tokenizer, dropped=dropped, seed=self.seed, meta=meta)

    def dataset(self, tokenizer: Any = None) -> Dataset:
        """`examples` as a `datasets.Dataset`: clean, corrupt, answer, wrong, options, positions."""
        return _dataset(self.examples(tokenizer))


@dataclass(frozen=True)
class Pairs:
    """The user's own pairs. `where` says where each came from (``"my.jsonl line 3"``), for error messages.

    Attributes:
        name: what results call them: the name of their file, or "pairs".
        skip: leave out the pairs that do not fit the tokeniser, and count them, as tasks do; False refuses the first.

    Examples:
        >>> pairs = wb.pairs(["So Mary met John"], ["So Mary met Anna"], [" Mary"], [" Anna"])
        >>> len(pairs), pairs.where
        (1, ('pair 1',))
    """

    items: tuple[Pair, ...]
    where: tuple[str, ...]
    name: str = "pairs"
    skip: bool = False

    def __post_init__(self) -> None:
        items = arguments.sequence("items", self.items, "pairs")
        if not items or not all(isinstance(item, Pair) for item in items):
            raise arguments.refusal("items", self.items, "a list of wb.Pair, at least one")
        where = arguments.texts("where", self.where, "where each pair comes from, as strings")
        if len(where) != len(items):
            raise arguments.refusal("where", self.where, f"{len(items)} strings, one per pair")
        arguments.text("name", self.name)
        object.__setattr__(self, "items", items)
        object.__setattr__(self, "where", where)
        object.__setattr__(self, "skip", arguments.flag("skip", self.skip))

    def __len__(self) -> int:
        return len(self.items)

    @property
    def positions(self) -> tuple[str, ...]:
        """Names that every pair has, in the first pair's order, and ``"end"``."""
        common = set.intersection(*(set(pair.positions) for pair in self.items))
        return (*(name for name in self.items[0].positions if name in common), "end")

    def _encoded_pairs(
        self, tokenizer: Any, max_length: int | None
    ) -> tuple[list[Pair], list[Encoded], list[str], list[str]]:
        """The pairs that fit the tokeniser, their ids, where they come from, and why the others do not fit."""
        from workbench.inputs.tokenising import encode

        selected: list[Pair] = []
        encoded: list[Encoded] = []
        places: list[str] = []
        problems: list[str] = []
        for pair, where in zip(self.items, self.where, strict=True):
            try:
                encoded.append(encode(pair, tokenizer, max_length))
                selected.append(pair)
                places.append(where)
            except BadInput as error:
                problems.append(f"{where}: {error}")
                if not self.skip:
                    raise BadInput(problems[0], column=error.column) from None
        if not selected:
            raise BadInput(f"{self.name}: this tokeniser can ask none of the {len(self)} pairs. {problems[0]}")
        return selected, encoded, places, problems

    def examples(self, tokenizer: Any = None) -> tuple[Pair, ...]:
        """The pairs as text: those that `inputs` keeps for a tokeniser, or all of them without one."""
        if tokenizer is None:
            return self.items
        return tuple(self._encoded_pairs(check_tokenizer(tokenizer), None)[0])

    def inputs(self, tokenizer: Any, max_length: int | None = None) -> PairedInputs:
        """Token ids of the pairs, in their order. Warns (`PairNotice`) of pairs that are left out (`skip`), and where
        answers lack the space that they would have after a word.

        Raises:
            BadInput: the first pair that does not fit this tokeniser (an answer of several tokens, clean and corrupt of
                unequal length) or `max_length`, the model's context: with its place, the problem and what to do. With
                `skip`, only where no pair fits.
        """
        from workbench.inputs.tokenising import gather, lacks_spaces

        check_tokenizer(tokenizer)
        max_length = arguments.whole_number("max_length", max_length, at_least=1, optional=True)
        selected, encoded, places, problems = self._encoded_pairs(tokenizer, max_length)
        if problems:
            warnings.warn(
                f"{self.name}: {len(problems)} of {len(self)} pairs are left out. The first: {problems[0]}",
                PairNotice,
                stacklevel=2,
            )
        if unspaced := [pair for pair in selected if lacks_spaces(pair, tokenizer)]:
            words = f"{unspaced[0].answer[0]!r} and {unspaced[0].wrong[0]!r}"
            warnings.warn(
                f"{self.name}: in {len(unspaced)} of {len(selected)} pairs the answers follow a letter without a "
                f"space, as {words} do. With a space they are one token each, too. Write it if it belongs there.",
                PairNotice,
                stacklevel=2,
            )
        return gather(self.name, selected, encoded, tokenizer, dropped=len(problems), where=places)

    def dataset(self, tokenizer: Any = None) -> Dataset:
        """`examples` as a `datasets.Dataset`; with a tokeniser they are checked against it first."""
        return _dataset(self.examples(tokenizer))


def task(name: str, n: int = 25, seed: int = 0, **options: str) -> Task:
    """The task `name` of ``data/tasks``, with n pairs sampled by a seed.

    `options` are the task's own settings, such as ``task("ioi", corruption="abc")``.

    Raises:
        UnknownName: no such task, or no such value of a setting; the nearest are suggested.
        UsageError: a setting that the task does not have; n or seed that are no whole numbers.

    Examples:
        >>> task = wb.task("ioi", n=6, seed=0, corruption="abc")
        >>> task.n, dict(task.settings)
        (6, {'corruption': 'abc'})
    """
    arguments.text("name", name, "the name of a task")
    if name not in TASKS.names():
        raise UnknownName("task", name, TASKS.names(), argument="name")
    subject = TASKS[name]
    if unknown := sorted(set(options) - set(subject.variants)):
        settings = ", ".join(subject.variants) or "none"
        raise UsageError(
            f"{unknown[0]}={arguments.as_typed(options[unknown[0]])}: the task {name!r} has no such setting. Its "
            f"settings: {settings}."
        )
    changes: dict[str, Any] = {}
    chosen: dict[str, str] = {}
    for setting, values in subject.variants.items():
        chosen[setting] = arguments.one_of(setting, options.get(setting, next(iter(values))), values)
        changes |= values[chosen[setting]]
    return replace(subject, n=n, seed=seed, settings=chosen, **changes)


def pairs(
    clean: Sequence[str],
    corrupt: Sequence[str],
    answer: Sequence[str | Sequence[str]],
    wrong: Sequence[str | Sequence[str]],
    options: Sequence[str] | Sequence[Sequence[str]] | None = None,
    positions: Sequence[Mapping[str, Any]] | None = None,
    *,
    skip: bool = False,
    name: str = "pairs",
) -> Pairs:
    """Pairs of your own; entry i of every list belongs to pair i.

    Args:
        answer, wrong: one string a pair, or several whose logits are averaged and probabilities summed. Written as
            they follow the prompt, so mostly with a leading space: ``" Mary"``.
        options: all candidate answers, for the accuracy among them: one list for all pairs, or one list a pair.
        positions: a mapping a pair, from a name to ``(start, end)`` characters of the clean text or to a word that
            occurs in it once.
        skip: leave out the pairs that do not fit a model's tokeniser, and count them (``info["dropped"]`` of a result),
            instead of refusing the first. `check_pairs` lists them all.
        name: what results and charts call the pairs.

    Raises:
        UsageError: lists of unequal lengths.
        BadInput: an invalid pair: which one, the problem and what to do.

    Examples:
        >>> pairs = wb.pairs(["So Mary met John"], ["So Mary met Anna"], answer=[" Mary"], wrong=[" Anna"])
        >>> len(pairs.inputs(wb.load("tiny").tokenizer))
        1
    """
    columns: dict[str, Any] = {"clean": clean, "corrupt": corrupt, "answer": answer, "wrong": wrong}
    columns |= {name: column for name, column in (("options", options), ("positions", positions)) if column is not None}
    for key, column in columns.items():
        columns[key] = entries = arguments.sequence(key, column, "a list with one entry per pair")
        if key in ("clean", "corrupt") and not all(isinstance(entry, str) for entry in entries):
            raise arguments.refusal(key, column, "a list of texts")
        if key == "options" and entries and all(isinstance(entry, str) for entry in entries):
            columns[key] = [list(entries)] * len(columns["clean"])
        elif not entries or len(entries) != len(columns["clean"]):
            size = max(1, len(columns["clean"]))
            why = f"clean has {len(columns['clean'])}" if key != "clean" else ""
            expected = f"{size} {'entries' if size > 1 else 'entry'} or more" if key == "clean" else f"{size} entries"
            raise arguments.refusal(key, column, expected, "Give one entry per pair in each list.", because=why)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    name = arguments.text("name", name)
    return _pairs_from_rows([(f"pair {i}", row) for i, row in enumerate(rows, start=1)], name, skip)


def read_pairs(path: str | Path, *, skip: bool = False) -> Pairs:
    """Pairs from a file: ``.jsonl`` (one object a line), ``.json`` (a list of objects) or ``.csv`` (with a header).

    The fields are those of `pairs`: clean, corrupt, answer, wrong, and optionally options and positions. The columns of
    a CSV are separated by commas, semicolons or tabs, several answers in a cell by ``|``; it has no positions. All
    lines are checked before any work. The pairs bear the file's name. `skip` is that of `pairs`.

    Raises:
        UsageError: another kind of file.
        BadInput: a file that cannot be read, or an invalid line: its number, the problem and what to do. `check_pairs`
            lists all invalid lines.

    Examples:
        >>> from pathlib import Path
        >>> pair = '{"clean": "So Mary met John", "corrupt": "So Mary met Anna", "answer": " Mary", "wrong": " Anna"}'
        >>> _ = Path("my.jsonl").write_text(pair)
        >>> wb.read_pairs("my.jsonl").where
        ('my.jsonl line 1',)
    """
    file = arguments.file_path("path", path, "the path of a .jsonl, .json or .csv file")
    return _pairs_from_rows(read_rows(file), file.name, skip)


def _pairs_from_rows(rows: Sequence[tuple[str, Mapping[str, Any]]], source: str, skip: bool) -> Pairs:
    made = tuple(pair_from_row(row, where) for where, row in rows)
    return Pairs(made, tuple(where for where, _ in rows), source, skip=arguments.flag("skip", skip))


def check_tokenizer(tokenizer: Any) -> Any:
    """A Hugging Face tokenizer.

    Raises:
        UsageError: something else.
    """
    if isinstance(tokenizer, type) or not callable(tokenizer) or not hasattr(tokenizer, "decode"):
        raise arguments.refusal("tokenizer", tokenizer, "a Hugging Face tokenizer", "A model's is model.tokenizer.")
    return tokenizer


def _check_texts_by_name(name: str, value: Any) -> None:
    what = "a mapping from names to strings"
    if not all(isinstance(text, str) for item in arguments.mapping(name, value, what).items() for text in item):
        raise arguments.refusal(name, value, what)


def _dataset(items: Sequence[Pair]) -> Dataset:
    from datasets import Dataset, Features, Value

    text = Value("string")
    columns = {
        "clean": [pair.clean for pair in items],
        "corrupt": [pair.corrupt for pair in items],
        "answer": [list(pair.answer) for pair in items],
        "wrong": [list(pair.wrong) for pair in items],
        "options": [list(pair.options) for pair in items],
        "positions": [
            [{"name": name, "start": start, "end": end} for name, (start, end) in pair.positions.items()]
            for pair in items
        ],
    }
    span = {"name": text, "start": Value("int64"), "end": Value("int64")}
    kinds = {"clean": text, "corrupt": text, "answer": [text], "wrong": [text], "options": [text], "positions": [span]}
    return Dataset.from_dict(columns, features=Features(kinds))
