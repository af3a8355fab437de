"""One pair as plain values, and the checks that need no tokeniser."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench import arguments
from workbench.errors import BadInput

#: The fields of a pair; the first four are required.
COLUMNS = ("clean", "corrupt", "answer", "wrong", "options", "positions")
REQUIRED = COLUMNS[:4]

Span = tuple[int, int]
_SPANS = "positions"


@dataclass(frozen=True)
class Pair:
    """A clean and a corrupt prompt with their answers.

    Attributes:
        clean, corrupt: the prompts, of equal token length.
        answer, wrong: right and wrong answers to the *clean* prompt, one token each, as they follow the prompt.
        options: all candidate answers, or none.
        positions: name → (start, end) characters in the clean text; the token is the last one that overlaps them.
        corrupt_positions: the same in the corrupt text, where known: they must fall on the same token index.

    Examples:
        >>> pair = wb.Pair("So Mary met John", "So Mary met Anna", answer=" Mary", wrong=" Anna")
        >>> pair.answer, pair.options
        ((' Mary',), ())
    """

    clean: str
    corrupt: str
    answer: tuple[str, ...]
    wrong: tuple[str, ...]
    options: tuple[str, ...] = ()
    positions: Mapping[str, Span] = field(default_factory=dict)
    corrupt_positions: Mapping[str, Span] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("clean", "corrupt"):
            arguments.text(name, getattr(self, name), "a prompt")
        for name in ("answer", "wrong", "options"):
            words = getattr(self, name)
            none = name == "options" and not isinstance(words, str) and not arguments.sequence(name, words, "texts")
            object.__setattr__(self, name, () if none else arguments.texts(name, words))
        for name in ("positions", "corrupt_positions"):
            _check_spans(name, getattr(self, name))


def _check_spans(name: str, spans: object) -> None:
    expected = "a mapping from a name to (start, end) characters"
    for place, span in arguments.mapping(name, spans, expected).items():
        if not isinstance(place, str) or not isinstance(span, tuple | list) or len(span) != 2:
            raise arguments.refusal(name, spans, expected)
        for edge in span:
            arguments.whole_number(f"{name}[{place!r}]", edge, at_least=0)


class PairNotice(UserWarning):
    """A valid pair that is probably a mistake."""


def check_fields(names: Iterable[str], where: str) -> None:
    """Refuse fields that are not those of a pair, and too few of them.

    Raises:
        BadInput: either; it starts with `where`.
    """
    names = list(names)
    for name in names:
        if name not in COLUMNS:
            near = difflib.get_close_matches(str(name), COLUMNS, n=1)
            do = f"Did you mean {near[0]!r}?" if near else f"The fields are {', '.join(COLUMNS)}."
            raise BadInput(f"{where}: unknown field {name!r}. {do}", column=str(name))
    for name in REQUIRED:
        if name not in names:
            present = ", ".join(names) or "none"
            do = f"A pair needs {', '.join(REQUIRED)}."
            raise BadInput(f"{where}: the field {name!r} is missing (found: {present}). {do}", column=name)


def pair_from_row(row: Mapping[str, Any], where: str) -> Pair:
    """A checked `Pair` from named values; raises `BadInput` that starts with `where`."""

    def bad(problem: str, do: str, column: str) -> BadInput:
        return BadInput(f"{where}: {problem}. {do}", column=column)

    check_fields(row, where)
    texts = {name: _text(row[name], name, bad) for name in ("clean", "corrupt")}
    if texts["clean"] == texts["corrupt"]:
        do = "Write a corrupt prompt that differs: patching moves the difference."
        raise bad("clean and corrupt are the same text", do, "corrupt")
    words = {name: _texts(row[name], name, bad) for name in ("answer", "wrong")}
    if both := set(words["answer"]) & set(words["wrong"]):
        raise bad(f"{min(both)!r} is both the answer and wrong", "They must differ.", "wrong")
    _notice_spaces(texts["clean"], words, where)
    options = _texts(row["options"], "options", bad) if row.get("options") else ()
    if options and (absent := [word for word in (*words["answer"], *words["wrong"]) if word not in options]):
        do = "List all candidates, including the answer and the wrong answer."
        raise bad(f"{absent[0]!r} is not among the options {list(options)}", do, "options")
    positions = _spans(row.get("positions") or {}, texts["clean"], bad)
    return Pair(texts["clean"], texts["corrupt"], words["answer"], words["wrong"], options, positions)


def _notice_spaces(clean: str, words: Mapping[str, tuple[str, ...]], where: str) -> None:
    """Warn of what is valid and nearly always a mistake: most tokenisers keep a space with the word that follows it."""
    spaced = {name: {word[:1].isspace() for word in texts} for name, texts in words.items()}
    if len(spaced["answer"] | spaced["wrong"]) > 1:
        answers = " and ".join(repr(texts[0]) for texts in words.values())
        warnings.warn(
            f"{where}: {answers} do not both begin with a space. Answers are compared as they follow the prompt.",
            PairNotice,
            stacklevel=4,
        )
    elif clean[-1:].isspace() and True in spaced["answer"]:
        warnings.warn(
            f"{where}: clean ends with a space and the answer {words['answer'][0]!r} begins with one. Leave one out.",
            PairNotice,
            stacklevel=4,
        )


def _text(value: Any, name: str, bad: Any) -> str:
    if not isinstance(value, str):
        raise bad(f"{name} is {_kind(value)}", "Write it as a string.", name)
    if not value:
        raise bad(f"{name} is empty", "Write some text.", name)
    try:
        value.encode()
    except UnicodeEncodeError:
        problem = f"{name} contains half of a character, a lone surrogate ({value!r:.60})"
        raise bad(problem, "Write it in valid Unicode.", name) from None
    return value


def _texts(value: Any, name: str, bad: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (_text(value, name, bad),)
    if not isinstance(value, list | tuple):
        raise bad(f"{name} is {_kind(value)}", "Write a string, or a list of strings.", name)
    if not value:
        raise bad(f"{name} is an empty list", "Write at least one string.", name)
    words = tuple(_text(entry, name, bad) for entry in value)
    if twice := [word for word in words if words.count(word) > 1]:
        raise bad(f"{name} lists {twice[0]!r} twice", "List each once.", name)
    return words


def _spans(value: Any, clean: str, bad: Any) -> dict[str, Span]:
    if not isinstance(value, Mapping):
        raise bad(f"positions is {_kind(value)}", "Write an object from name to [start, end] or to a word.", _SPANS)
    if "end" in value:
        raise bad("a position is called 'end'", "That name is the last token's: choose another.", _SPANS)
    return {str(name): _span(name, place, clean, bad) for name, place in value.items()}


def _span(name: str, place: Any, clean: str, bad: Any) -> Span:
    if isinstance(place, str) and place:
        if (count := clean.count(place)) == 1:
            return clean.index(place), clean.index(place) + len(place)
        problem = f"position {name!r}: {place!r} occurs {count} times in clean"
        raise bad(problem, "Give [start, end] characters.", _SPANS)
    match place:
        case [int(start), int(stop)] if 0 <= start < stop <= len(clean):
            return start, stop
    do = f"Give [start, end] with 0 <= start < end <= {len(clean)}, the characters of clean, or a word of it."
    raise bad(f"position {name!r} is {place!r:.60}", do, _SPANS)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {"dict": "an object", "list": "a list", "bool": "true or false", "int": "a number", "float": "a number"}
    return names.get(type(value).__name__, f"a {type(value).__name__}")
