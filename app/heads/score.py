"""One number per head, as the grid, the ranking and the downloads show it: values, chance levels, and over how many
positions they are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from app.heads.prompt_record import PromptRecord
from app.heads.record_scores import ATTRIBUTION
from workbench.core import Head
from workbench.head_scores.absent import NOT_FINITE, why_heads_have_none, why_no_pattern_score
from workbench.head_scores.ranking import ranked
from workbench.head_scores.result import UNITS
from workbench.io.tables import ascii_minus, printed
from workbench.models.in_forward import without_pattern_scores
from workbench.patching.attention_at import uniform_weight
from workbench.plotting.attention_view import DESTINATION
from workbench.plotting.position_attention import AttentionBetween
from workbench.plotting.shaded_text import MASKED

if TYPE_CHECKING:
    import pandas as pd

SIMILARITY = "similarity"
#: Scores that compare the attention to a position's matching keys with that of other positions.
MATCHED = ("duplicate_token", "induction")
#: Score of patterns → the positions that count on a prompt, where these are not all.
COUNTED = {
    "previous_token": "all but the first",
    "duplicate_token": "those whose token occurs earlier",
    "induction": "those whose token occurs at least two positions earlier",
}
NO_VALUE = "No values yet: the scores are being computed in the background. You can select heads meanwhile."
NOT_STARTED = "No values yet. A value of the link cannot be used: the scores are computed when you press the button."
UNIFORM = "uniform attention"
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
        note: over how many positions the values are taken, what zero means, and the chance levels.
        levels: chance levels, to be marked on the colour bar.
        signed: whether zero is the middle of the scale.
        texts: ``[layer, head]``, shown of the head below the pointer instead of its value.
        marked: heads with a frame.
        by_size: whether heads are ranked by ``|value|``.
        low, high: ends of the 95 % interval, where there is one.
        chance: the chance level that the ranking shows, one or one a head; `chance_name` says what it is.
        positions: over how many positions the values are taken; None of scores that look at none.
        without: reason → the heads that have no value.
        metadata: further fields of the downloads, such as the task.
        data_title: `title` in data, where it has marks for white space in tokens.
    """

    values: Float[np.ndarray, "layer head"]
    title: str
    units: str
    note: str
    levels: Sequence[float] = ()
    signed: bool = False
    texts: np.ndarray | None = None
    marked: frozenset[Head] = frozenset()
    by_size: bool = False
    low: Float[np.ndarray, "layer head"] | None = None
    high: Float[np.ndarray, "layer head"] | None = None
    chance: float | Float[np.ndarray, "layer head"] | None = None
    chance_name: str = ""
    positions: int | None = None
    without: Mapping[str, Sequence[Head]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    data_title: str = ""

    def ranking(self, among: Bool[np.ndarray, "layer head"] | None = None) -> pd.DataFrame:
        """The heads in order, see `workbench.head_scores.ranking.ranked`."""
        columns = {"low": self.low, "high": self.high, "chance": self.chance, "positions": self.positions}
        return ranked(self.values, columns, by_size=self.by_size, among=among)

    def facts(self) -> dict[str, Any]:
        """What the values are, as columns of a CSV file."""
        fields = {"score": self.data_title or self.title, "units": self.units}
        fields |= {"chance_level": self.chance_name} if self.chance_name else {}
        fields |= {"positions": self.positions}
        return {name: ascii_minus(fact) for name, fact in {**fields, **self.metadata}.items() if fact is not None}

    def data(self) -> dict[str, Any]:
        """What the JSON of the grid has besides the values, its arrays ``[head, layer]`` as these."""
        arrays = {"low": self.low, "high": self.high, "chance": self.chance}
        fields: dict[str, Any] = {name: np.asarray(x).T for name, x in arrays.items() if x is not None}
        fields |= {} if self.positions is None else {"positions": self.positions}
        fields |= {"without_value": without_value(self)} if self.without else {}
        return {**fields, **self.metadata}


def prompt_score(record: PromptRecord, head: Head, name: str) -> Score:
    """A score of `PROMPT_SCORES`."""
    title, units = PROMPT_SCORES[name].capitalize(), UNITS[name]
    if name == SIMILARITY:
        return _similarity(record, head, f"Similarity to head {head}", units)
    values, level = record.scores[name], record.chance[name]
    without = _without(record, name, values)
    if name == ATTRIBUTION:
        first, second = record.next_tokens(2)
        note = (
            f"Direct effect, at the last position, on the logit of {first.token!r} minus the logit of "
            f"{second.token!r}. 0: no direct effect. Mean |value| over heads: {printed(mean_size(values))}; with "
            f"{UNIFORM}: {printed(level)}."
        )
        attribution = Score(
            *(values, title, units, note, [-level, level]),
            signed=True,
            by_size=True,
            chance=record.uniform_attribution,
            chance_name=UNIFORM,
            positions=1,
            without=without,
        )
        return attribution if np.isfinite(values).any() else nothing(attribution)
    positions = record.positions[name]
    note = f"{mean_over(name, positions)} Chance level: {UNIFORM} {printed(level)}{below_zero(name, level)}."
    signed = name in MATCHED
    score = Score(
        *(values, title, units, note, [level], signed),
        chance=level,
        chance_name=UNIFORM,
        positions=positions,
        without=without,
    )
    return score if np.isfinite(values).any() else nothing(score)


def _similarity(record: PromptRecord, head: Head, title: str, units: str) -> Score:
    values, level = record.similarity(head), record.median_similarity
    if not np.isfinite(values).any():
        every = [Head(i, j) for i, j in np.ndindex(values.shape)]
        reason = f"of head {head}: {why_nothing_is_similar(record, head)}"
        return nothing(Score(values, title, units, "", without={reason: every}))
    without = _without(record, SIMILARITY, values)
    note = (
        f"Cosine of the patterns, over {len(record)} positions. 0: unrelated patterns. Median |cosine| over all pairs "
        f"of heads on this prompt: {printed(level)}."
    )
    return Score(
        *(values, title, units, note, [-level, level]),
        signed=True,
        positions=len(record),
        without={reason: others for reason, heads in without.items() if (others := [h for h in heads if h != head])},
    )


def why_nothing_is_similar(record: PromptRecord, head: Head) -> str:
    """Why no head has a similarity to this one: what it, the prompt or the model lacks."""
    by_layer = without_pattern_scores(record.model)
    if str(head.layer) in by_layer:
        return f"{by_layer[str(head.layer)]}."
    return why_no_pattern_score(SIMILARITY, record.model, [record.ids], is_finite=_is_finite(record, head))


def _without(record: PromptRecord, name: str, values: Float[np.ndarray, "layer head"]) -> dict[str, list[Head]]:
    absent: dict[str, str] = {}
    if not np.isfinite(values).any():
        if name == ATTRIBUTION:
            absent[name] = record.model.additivity.why_not or NOT_FINITE
        elif name != SIMILARITY:
            absent[name] = why_no_pattern_score(name, record.model, [record.ids], is_finite=_is_finite(record))
    return why_heads_have_none(name, {name: values}, absent, without_pattern_scores(record.model))


def _is_finite(record: PromptRecord, head: Head | None = None) -> bool:
    """Whether the prompt has pattern scores: of one head, or of any."""
    entropies = record.scores["entropy"]
    return bool(np.isfinite(entropies if head is None else entropies[head.layer, head.index]).any())


def nothing(score: Score) -> Score:
    """A score that no head has, which is grey in the grid: the note says why, and nothing else."""
    note = f"No value: {' '.join(score.without)}"
    rest = {"texts": score.texts, "without": score.without, "metadata": score.metadata}
    return Score(score.values, score.title, score.units, note, **rest)


def without_value(score: Score) -> list[str]:
    """Which heads have no value, and why: a line for each reason."""
    n_heads, lines = score.values.shape[1], []
    for reason, heads in score.without.items():
        layers = sorted({head.layer for head in heads})
        if len(heads) == score.values.size:
            which = "all heads"
        elif len(heads) == len(layers) * n_heads:
            which = f"layer{'' if len(layers) == 1 else 's'} {', '.join(map(str, layers))}"
        else:
            which = f"{len(heads)} head{'' if len(heads) == 1 else 's'}"
            which = f"head {heads[0]}" if len(heads) == 1 else which
        lines.append(f"No value for {which}: {reason}")
    return lines


def mean_size(values: Float[np.ndarray, "layer head"]) -> float:
    """The mean of |value| over the heads that have one."""
    finite = values[np.isfinite(values)]
    return float(np.abs(finite).mean()) if finite.size else np.nan


def pair_score(record: PromptRecord, dest: int, src: int) -> Score:
    """The attention from one position to another in every head."""
    weights, masked = record.attention_between(dest, src), record.masked_at(dest, DESTINATION)[:, src]
    uniform = uniform_weight(dest, src, len(record), record.model.causal)
    pair = AttentionBetween(record.tokens, weights, dest, src, uniform=uniform, masked=masked)
    without = _without(record, "sink", weights)  # as of every score of patterns
    if masked.any():
        hidden = np.argwhere(masked[:, None] & np.isfinite(weights)).tolist()
        without[f"{pair.why_masked}."] = [Head(layer, index) for layer, index in hidden]
    title, units, weights = pair.title, "attention weight", pair.unmasked
    metadata = {"dest": dest, "dest_token": record.tokens[dest], "src": src, "src_token": record.tokens[src]}
    data_title = f"Attention from {dest} to {src}"
    note = f"One pair of positions. Chance level: {UNIFORM} {pair.uniform:.3g}."
    texts = np.array([f"{w:.3g} {units}" if np.isfinite(w) else "no value" for w in weights.ravel()], dtype=object)
    texts = np.where(masked[:, None], MASKED, texts.reshape(weights.shape))
    score = Score(
        *(weights, title, units, note, [pair.uniform]),
        texts=texts if masked.any() else None,
        chance=pair.uniform,
        chance_name=UNIFORM,
        positions=1,
        without=without,
        metadata=metadata,
        data_title=data_title,
    )
    return score if np.isfinite(weights).any() else nothing(score)


def mean_over(name: str, positions: int, prompts: int = 1) -> str:
    """Over how many positions, and prompts with such a position, a score of patterns is taken; and what it compares."""
    counted = f"{positions:,} position{'' if positions == 1 else 's'}"
    over = f"Mean over {counted}" if prompts == 1 else f"Mean over {prompts} prompts ({counted} in all)"
    over += f": {COUNTED[name]}" if name in COUNTED else ""
    if name not in MATCHED:
        return f"{over}."
    over += ", where other later positions see the same keys"
    return f"{over}, less the attention that the same keys get from other later positions. 0: no more than these give."


def below_zero(name: str, level: float) -> str:
    """Why the chance level of a score is negative, where it is."""
    if name not in MATCHED or not level < 0:
        return ""
    return " (below 0: earlier positions attend to fewer keys, so that uniform attention gives each of these more)"


def difference(first: Score, second: Score) -> Score:
    """The first score minus the second."""
    values = first.values - second.values
    title = f"{first.title}: first − second"
    if first.title != second.title:
        title = f"{first.title} − {second.title[:1].lower()}{second.title[1:]}"
    shared = {name: fact for name, fact in first.metadata.items() if second.metadata.get(name) == fact}
    without: dict[str, Sequence[Head]] = {}
    for label, side in (("first", first), ("second", second)):
        without |= {f"{label}: {reason}": heads for reason, heads in side.without.items()}
    sizes = np.abs(values[np.isfinite(values)])
    median = float(np.median(sizes)) if sizes.size else np.nan
    counted = [side.positions for side in (first, second)]
    over = f"Over {counted[0]:,} and {counted[1]:,} positions. " if None not in counted else ""
    note = f"{over}0: no difference. Median |difference| over heads: {printed(median)}."
    score = Score(
        *(values, title, first.units, note),
        signed=True,
        by_size=True,
        without=without,
        metadata=shared,
        data_title=f"{first.data_title}: first - second" if first.data_title else "",
    )
    return score if sizes.size else nothing(score)


def empty_score(shape: tuple[int, int], title: str, note: str) -> Score:
    """A score without values, which is grey in the grid."""
    return Score(np.full(shape, np.nan), title, "", note)
