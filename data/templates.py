"""Prompts from templates with named slots, which record the position of each slot."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping

from workbench.inputs.pairs import Pair

Spans = dict[str, tuple[int, int]]


def fill(template: str, words: Mapping[str, str]) -> tuple[str, Spans]:
    """The text, and the characters of each slot: ``fill("{S} sat", {"S": "Al"}) == ("Al sat", {"S": (0, 2)})``.

    A slot used twice has its last position.
    """
    text, spans = "", Spans()
    for literal, slot, _, _ in string.Formatter().parse(template):
        text += literal
        if slot:
            spans[slot] = (len(text), len(text) + len(words[slot]))
            text += words[slot]
    return text, spans


def after(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """The word or punctuation mark that follows a span."""
    match = re.compile(r"\s*(\w+|[^\w\s])").match(text, span[1])
    if match is None:
        raise ValueError(f"nothing follows the characters {span} of {text!r}")
    return match.span(1)


def minimal_pair(
    template: str,
    words: Mapping[str, str],
    changed: Mapping[str, str],
    *,
    answer: str,
    wrong: str,
    options: Iterable[str],
    positions: Iterable[str] | Mapping[str, str],
) -> Pair:
    """The pair of a template: `changed` overrides some of the words in the corrupt prompt.

    Answers and options are bare words and get a leading space. `positions` are slots, or name → slot; ``"S1+1"`` is the
    word after S1.
    """
    slots = dict(positions) if isinstance(positions, Mapping) else {name: name for name in positions}
    texts = [fill(template, words), fill(template, {**words, **changed})]
    positions_of = [{n: _span(slot, text, spans) for n, slot in slots.items() if n != "end"} for text, spans in texts]
    return Pair(
        clean=texts[0][0],
        corrupt=texts[1][0],
        answer=(f" {answer}",),
        wrong=(f" {wrong}",),
        options=tuple(f" {option}" for option in options),
        positions=positions_of[0],
        corrupt_positions=positions_of[1],
    )


def _span(slot: str, text: str, spans: Spans) -> tuple[int, int]:
    slot, plus, _ = slot.partition("+1")
    return after(text, spans[slot]) if plus else spans[slot]
