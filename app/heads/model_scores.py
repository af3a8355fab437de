"""Scores that take longer than a page may: of weights alone, on random tokens repeated and on a task.

The worker process computes them at low priority when one of them is first asked for, and leaves a file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from app import models
from app.heads.score import Score
from app.work import background, result_files
from workbench.head_scores.result import UNITS, HeadScores

#: In the page's list → score of `workbench.scores`, and its label.
LISTED = {
    "copy_score": ("copy_score", "weights: copy score"),
    "ov_norm": ("ov_norm", "weights: OV norm"),
    "ov_rank": ("ov_rank", "weights: OV effective rank"),
    "qk_norm": ("qk_norm", "weights: QK norm"),
    "qk_rank": ("qk_rank", "weights: QK effective rank"),
    "q_composition": ("q_composition", "weights: strongest Q composition"),
    "k_composition": ("k_composition", "weights: strongest K composition"),
    "v_composition": ("v_composition", "weights: strongest V composition"),
    "repeated_previous_token": ("previous_token", "random tokens, repeated: previous token"),
    "repeated_duplicate_token": ("duplicate_token", "random tokens, repeated: duplicate token"),
    "repeated_induction": ("induction", "random tokens, repeated: induction"),
    "repeated_sink": ("sink", "random tokens, repeated: sink (first position)"),
    "repeated_entropy": ("entropy", "random tokens, repeated: entropy"),
    "repeated_locality": ("locality", "random tokens, repeated: locality"),
    "repeated_similarity": ("similarity", "random tokens, repeated: largest similarity"),
    "ioi_copy": ("ioi_copy", "IOI task: names copied"),
    "ioi_copy_negative": ("ioi_copy_negative", "IOI task: names suppressed"),
    "task_attribution": ("direct_logit_attribution", "IOI task: direct logit attribution"),
}
#: What they are called among what jobs leave.
SCORES = "scores"
BEGIN = "Score the weights of all heads"
#: Models whose scores stay in memory.
KEPT = 4


@dataclass(frozen=True, eq=False)
class ModelScores:
    """A model's scores, and what chance has of each."""

    scores: HeadScores
    chance: dict[str, dict[str, float]]


def ready(name: str) -> ModelScores | None:
    """The scores of a model, where they are on this machine; nothing is computed."""
    return background.ready(SCORES, key(name), _read)


def asked(name: str) -> ModelScores | None:
    """The scores of a model; None until they are there, and how far they are is drawn."""
    return background.awaited(SCORES, key(name), job(name), _read, BEGIN)


def offered(name: str) -> ModelScores | None:
    """The same, but nothing is begun before a button is pressed."""
    found = ready(name)
    if found is None and background.jobs().newest(key(name)) is not None:
        return asked(name)
    if found is None:
        background.begin(SCORES, key(name), job(name), BEGIN)
    return found


def job(name: str) -> dict[str, str]:
    """What the worker does."""
    return {"model": name, "label": "scores of the weights"}


def key(name: str) -> str:
    """Of that job, and of what it leaves."""
    return result_files.result_key(SCORES, name, models.load(name))


def score(model_scores: ModelScores, listed: str) -> Score:
    """One of `LISTED`."""
    name, label = LISTED[listed]
    values, chance = model_scores.scores[name], model_scores.chance[name]
    levels = {
        "a uniform head": chance["uniform"],
        "random weights": chance["random"],
        "their 95th percentile": chance["random_95"],
    }
    if name.endswith("_composition"):
        levels["unrelated heads"] = float(model_scores.scores.info["unrelated_composition"])
    if name.startswith("ioi_copy"):
        levels["tokens at random"] = float(model_scores.scores.info["read_out_chance"])
    finite = {what: level for what, level in levels.items() if np.isfinite(level)}
    note = "Chance: " + ", ".join(f"{what} {level:.3g}" for what, level in finite.items()) + "."
    signed = bool(np.nanmin(values) < 0)
    where, _, what = label.partition(": ")
    title = f"{what[0].upper()}{what[1:]} ({where if where != 'weights' else 'weights alone'})"
    return Score(values, title, UNITS[name], note, list(finite.values()), signed, _texts(model_scores.scores, name))


def _texts(scores: HeadScores, name: str) -> np.ndarray:
    """Value, interval where it is a mean, and the head with which where it is the largest over heads."""
    values = scores[name]
    texts = np.array([f"{v:.3g} {UNITS[name]}" if np.isfinite(v) else "no value" for v in values.ravel()], dtype=object)
    if name in scores.samples:
        low, high = scores.interval(name)
        texts += [f", 95 % [{a:.3g}, {b:.3g}]" for a, b in zip(low.ravel(), high.ravel(), strict=True)]
    if name in scores.pairs:
        best = [strongest_partners(scores, name, i, 1) for i in range(values.size)]
        texts += [f", with {found[0][0]}" if found else "" for found in best]
    return texts.reshape(values.shape)


def strongest_partners(scores: HeadScores, name: str, row: int, k: int) -> list[tuple[str, float]]:
    """The k heads with the largest entry in a row of `HeadScores.pairs`."""
    entries = scores.pairs[name][row]
    order = np.argsort(np.where(np.isfinite(entries), -entries, np.inf), kind="stable")[:k]
    return [(scores.heads[i], float(entries[i])) for i in order if np.isfinite(entries[i])]


@st.cache_resource(max_entries=KEPT, show_spinner=False)
def _read(key: str) -> ModelScores:
    scores = HeadScores.load(result_files.result_path(SCORES, key))
    return ModelScores(scores, {row["score"]: row for row in scores.chance().to_dict("records")})
