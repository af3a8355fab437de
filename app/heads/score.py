"""One number per head, as the grid shows it: its values, its units and its chance levels."""

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
from workbench.patching.attention_at import uniform_weight
from workbench.plotting.position_attention import AttentionBetween

SIMILARITY = "similarity"
#: Scores that compare the attention to a position's matching keys with that of other positions.
MATCHED = ("duplicate_token", "induction")
NO_VALUE = "No values yet: the scores are being computed in the background. You can select heads meanwhile."
#: Scores of the prompt alone, available at once: name → label.
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
    """One number per head.

    Attributes:
        values: NaN where a head has none.
        title, units: in words.
        note: what zero means, or the chance levels.
        levels: chance levels, to be marked on the colour bar.
        signed: whether zero is the middle of the scale.
        texts: ``[layer, head]``, shown of the head below the pointer instead of its value.
        marked: heads with a frame.
        metadata: further fields of the JSON download, such as the intervals ``[head, layer]``.
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


def prompt_score(record: PromptRecord, head: Head, name: str) -> Score:
    """A score of `PROMPT_SCORES`."""
    title, units = PROMPT_SCORES[name].capitalize(), UNITS[name]
    if name == SIMILARITY:
        level = record.median_similarity
        note = f"0: unrelated patterns. Median |cosine| over all pairs of heads on this prompt: {level:.3g}."
        return Score(record.similarity(head), title, units, note, [-level, level], signed=True)
    values, level = record.scores[name], record.chance[name]
    if name == ATTRIBUTION:
        first, second = record.next_tokens(2)
        note = (
            f"Direct effect on the logit of {first.token!r} minus the logit of {second.token!r}. 0: no direct effect. "
            f"Mean |value| over heads: {np.abs(values).mean():.3g}; with uniform attention: {level:.3g}."
        )
        return Score(values, title, units, note, [-level, level], signed=True)
    if np.isnan(level):
        note = (
            "No value: no token occurs twice in this prompt with other tokens behind it. Use a prompt with a repeated "
            "token."
        )
        return Score(values, title, units, note)
    positions = record.positions[name]
    note = f"{mean_over(name, positions)} Chance level: uniform attention {level:z.3g}."
    return Score(values, title, units, note, [level], signed=name in MATCHED, metadata={"positions": positions})


def pair_score(record: PromptRecord, dest: int, src: int) -> Score:
    """The attention from one position to another in every head."""
    weights = record.attention_between(dest, src)
    causal = record.model.causal
    pair = AttentionBetween(record.tokens, weights, dest, src, uniform=uniform_weight(dest, src, len(record), causal))
    metadata = {"dest": dest, "src": src}
    if causal and src > dest:
        note = f"0: position {dest} comes before position {src} and cannot attend to it."
        return Score(weights, pair.title, "attention weight", note, metadata=metadata)
    note = f"One pair of positions. Chance level: uniform attention {pair.uniform:.3g}."
    return Score(weights, pair.title, "attention weight", note, [pair.uniform], metadata=metadata)


def mean_over(name: str, positions: int, prompts: int = 1) -> str:
    """Over how many positions, and prompts with such a position, a score of patterns is taken; and what it compares."""
    counted = f"{positions} position{'' if positions == 1 else 's'}"
    over = f"Mean over {counted}" if prompts == 1 else f"Mean over {prompts} prompts ({counted} in all)"
    if name not in MATCHED:
        return f"{over}."
    return f"{over}, less the attention that the same keys get from other later positions. 0: no more than these give."


def difference(first: Score, second: Score) -> Score:
    """The first score minus the second."""
    values = first.values - second.values
    median = np.nanmedian(np.abs(values)) if np.isfinite(values).any() else np.nan
    note = f"0: no difference. Median |difference| over heads: {median:.3g}."
    return Score(values, f"{first.title}: first − second", first.units, note, signed=True)


def empty_score(shape: tuple[int, int], title: str, note: str) -> Score:
    """A score without values, which is grey in the grid."""
    return Score(np.full(shape, np.nan), title, "", note)
