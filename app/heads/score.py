"""One number a head, as the grid shows it: its values, its units and what chance has of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from app.heads.prompt_record import PromptRecord
from app.heads.record_scores import ATTRIBUTION
from workbench.core import Head
from workbench.head_scores.result import UNITS

SIMILARITY = "similarity"
NO_VALUE = "No value yet: they are computed in the background, and heads can be selected meanwhile."
#: What is seen in the chosen prompt alone, and is there at once.
PROMPT_SCORES = {
    "previous_token": "previous token",
    "duplicate_token": "duplicate token",
    "induction": "induction",
    "sink": "sink (first position)",
    "entropy": "entropy",
    "locality": "locality",
    ATTRIBUTION: "direct logit attribution",
    SIMILARITY: "similarity to the selected head",
}


@dataclass(frozen=True, eq=False)
class Score:
    """One number a head.

    Attributes:
        values: NaN where a head has none.
        title, units: in words.
        note: what zero means, or what chance has.
        levels: chance levels, to be marked on the colour bar.
        signed: whether zero is the middle of the scale.
        texts: ``[layer, head]``, what is said of each head instead of its value.
        marked: heads with a frame.
        about: what the downloaded data say besides: of what the score is, and its intervals ``[head, layer]``.
    """

    values: Float[np.ndarray, "layer head"]
    title: str
    units: str
    note: str
    levels: Sequence[float] = ()
    signed: bool = False
    texts: np.ndarray | None = None
    marked: frozenset[Head] = frozenset()
    metadata: Mapping[str, Any] = field(default_factory=dict)


def prompt_score(look: PromptRecord, head: Head, name: str) -> Score:
    """A score of `ON_PROMPT`."""
    title, units = PROMPT_SCORES[name].capitalize(), UNITS[name]
    if name == SIMILARITY:
        level = look.median_similarity
        note = f"0: unrelated. Two heads of this prompt have |cosine| {level:.3g} (median over all pairs)."
        return Score(look.similarity(head), title, units, note, [-level, level], signed=True)
    level = look.chance[name]
    if name == ATTRIBUTION:
        first, second = look.next_tokens(2)
        note = (
            f"To the logit of {first.token!r} over {second.token!r}; 0: pushes to neither. Mean magnitude "
            f"{np.abs(look.scores[name]).mean():.3g}; {level:.3g} if every head attended uniformly."
        )
        return Score(look.scores[name], title, units, note, [-level, level], signed=True)
    if np.isnan(level):
        note = "No token of this prompt occurs twice, so no head has a value: take a prompt that repeats something."
        return Score(look.scores[name], title, units, note)
    return Score(look.scores[name], title, units, f"Chance: a uniform head has {level:.3g}.", [level])


def difference(first: Score, second: Score) -> Score:
    """First less second."""
    values = first.values - second.values
    median = np.nanmedian(np.abs(values)) if np.isfinite(values).any() else np.nan
    note = f"0: no difference; half of the heads differ by less than {median:.3g}."
    return Score(values, f"{first.title}: first − second", first.units, note, signed=True)


def empty_score(shape: tuple[int, int], title: str, note: str) -> Score:
    """A score that is not there yet."""
    return Score(np.full(shape, np.nan), title, "", note)
