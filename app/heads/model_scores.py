"""Scores that take longer than a rerun may: of weights alone, on random repeated tokens, and on the IOI task.

The worker process computes them when one of them is first selected, and leaves a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from app import models
from app.heads.score import MATCHED, Score, nothing
from app.swapped_names import job_model
from app.work.background import Background
from app.work.result_files import SCORES, result_key
from workbench.head_scores.compute import VERSION
from workbench.head_scores.ranking import BY_SIZE
from workbench.head_scores.result import ON_TASK, UNITS, HeadScores
from workbench.io.tables import printed

#: Value of the URL's ``score`` → score of `workbench.scores`, and its label.
LISTED = {
    "copy_score": ("copy_score", "weights: copy score"),
    "ov_norm": ("ov_norm", "weights: OV norm"),
    "ov_rank": ("ov_rank", "weights: OV effective rank"),
    "qk_norm": ("qk_norm", "weights: QK norm"),
    "qk_rank": ("qk_rank", "weights: QK effective rank"),
    "q_composition": ("q_composition", "weights: strongest Q composition"),
    "k_composition": ("k_composition", "weights: strongest K composition"),
    "v_composition": ("v_composition", "weights: strongest V composition"),
    "repeated_previous_token": ("previous_token", "repeated random tokens: previous token"),
    "repeated_duplicate_token": ("duplicate_token", "repeated random tokens: duplicate token"),
    "repeated_induction": ("induction", "repeated random tokens: induction"),
    "repeated_sink": ("sink", "repeated random tokens: sink (first position)"),
    "repeated_entropy": ("entropy", "repeated random tokens: entropy"),
    "repeated_locality": ("locality", "repeated random tokens: locality"),
    "repeated_similarity": ("similarity", "repeated random tokens: largest similarity"),
    "ioi_copy": ("ioi_copy", "IOI task: names copied"),
    "ioi_copy_negative": ("ioi_copy_negative", "IOI task: names suppressed"),
    "task_attribution": ("direct_logit_attribution", "IOI task: direct logit attribution"),
}
#: Models whose scores stay in memory.
MAX_MODELS = 4


@dataclass(frozen=True, eq=False)
class ModelScores:
    """A model's scores, and the chance levels of each."""

    scores: HeadScores
    chance: dict[str, dict[str, float]]


def background(model_name: str) -> Background[ModelScores]:
    """The scores of a model, computed in the background."""
    key = result_key(SCORES, model_name, models.load(model_name), VERSION)
    request = {**job_model(model_name), "label": "scores of all heads"}
    return Background(SCORES, key, request, _read, "Compute the scores of all heads")


def score(model_scores: ModelScores, listed: str) -> Score:
    """One of `LISTED`."""
    name, label = LISTED[listed]
    scores = model_scores.scores
    values, chance = scores[name], model_scores.chance[name]
    levels = {
        "uniform attention": chance["uniform"],
        "random weights": chance["random"],
        "95th percentile of random weights": chance["random_95"],
    }
    if name.endswith("_composition"):
        levels["unrelated heads"] = float(scores.info["unrelated_composition"])
    if name.startswith("ioi_copy"):
        levels["random tokens"] = float(scores.info["read_out_chance"])
    finite = {label: level for label, level in levels.items() if np.isfinite(level)}
    note = _taken_over(scores, name)
    if finite:
        note += " Chance level: " + ", ".join(f"{label} {printed(level)}" for label, level in finite.items()) + "."
    source, _, quantity = label.partition(": ")
    title = f"{quantity[0].upper()}{quantity[1:]} ({source if source != 'weights' else 'weights alone'})"
    low, high = scores.interval(name) if name in scores.samples else (None, None)
    chance, chance_name = scores.chance_level(name)
    of_model = Score(
        *(values, title, UNITS[name], note, list(finite.values()), bool((values < 0).any()), _texts(scores, name)),
        by_size=name in BY_SIZE,
        low=low,
        high=high,
        chance=chance,
        chance_name=chance_name,
        positions=scores.positions.get(name),
        without=scores.without_value(name),
        metadata=_of(scores, name),
    )
    return of_model if np.isfinite(values).any() else nothing(of_model)


def _of(scores: HeadScores, name: str) -> dict[str, Any]:
    """What a score is taken on: a task, repeated random tokens, or nothing."""
    if name in ON_TASK:
        return {"task": scores.info["task"], "n": scores.info["n"]}
    if name in scores.positions:
        return {"sequences": scores.info["sequences"], "period": scores.info["period"]}
    return {}


def _taken_over(scores: HeadScores, name: str) -> str:
    """Over how many positions a score is taken, and of what."""
    if name not in scores.positions:
        return "From the weights alone, over no positions."
    info, positions = scores.info, scores.positions[name]
    if name == "direct_logit_attribution":
        return f"Mean over the last position of each of {info['n']} prompts of {info['task']}. 0: no direct effect."
    if name.startswith("ioi_copy"):
        places = f"{positions} positions that hold a token of the answers or wrong answers"
        return f"Over the {places}, in {info['n']} prompts of {info['task']}."
    of = f"{info['sequences']} sequences of {info['period']} random tokens, each repeated once"
    which = {"previous_token": ", all but the first,", **dict.fromkeys(MATCHED, " of the second halves")}.get(name, "")
    return f"Mean over {positions:,} positions{which} in {of}."


def _texts(scores: HeadScores, name: str) -> np.ndarray:
    """Value, its interval where it is a mean, and the other head where it is a maximum over heads."""
    values, units = scores[name], UNITS[name]
    texts = np.array([f"{printed(v)} {units}" if np.isfinite(v) else "no value" for v in values.ravel()], dtype=object)
    if name in scores.samples:
        low, high = scores.interval(name)
        ends = zip(low.ravel(), high.ravel(), strict=True)
        texts += [f", 95 % [{printed(a)}, {printed(b)}]" if np.isfinite(a) else "" for a, b in ends]
    if name in scores.pairs:
        partners = [strongest_partners(scores, name, i, 1) for i in range(values.size)]
        texts += [f", with {best[0][0]}" if best else "" for best in partners]
    return texts.reshape(values.shape)


def strongest_partners(scores: HeadScores, name: str, row: int, k: int) -> list[tuple[str, float]]:
    """The k heads with the largest entry in a row of `HeadScores.pairs`."""
    entries = scores.pairs[name][row]
    order = np.argsort(np.where(np.isfinite(entries), -entries, np.inf), kind="stable")[:k]
    return [(scores.heads[i], float(entries[i])) for i in order if np.isfinite(entries[i])]


@st.cache_resource(max_entries=MAX_MODELS, show_spinner=False)
def _read(path: Path) -> ModelScores:
    scores = HeadScores.load(path)
    return ModelScores(scores, {row["score"]: row for row in scores.chance().to_dict("records")})
