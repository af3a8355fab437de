"""Heads on a task's prompts: each score as the mean over them with its interval, computed by the worker process; one of
the prompts is looked at closely."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from app import models, sidebar, task_inputs, url_widgets
from app.heads.record_scores import ATTRIBUTION
from app.heads.score import NO_VALUE, PROMPT_SCORES, SIMILARITY, Score, empty_score
from app.heads.selection import Selection
from app.work import result_files
from app.work.background import awaited
from workbench.head_scores.result import UNITS, HeadScores
from workbench.plotting.attention_view import visible

PROMPT, TASK = "one prompt", "a task"
#: Scores that have a mean over prompts.
AVERAGED = tuple(name for name in PROMPT_SCORES if name != SIMILARITY)
#: What the worker calls them.
KIND = "task_scores"
LINE = "\n"
#: Fewer prompts give intervals that are rough.
FEW_PROMPTS = 6
#: Tasks whose scores stay in memory.
MAX_TASKS = 8


def source_widget() -> str:
    """Whether the side bar's prompt is scored, or a task's prompts."""
    return url_widgets.segments("Scores on", [PROMPT, TASK], "scored")


def prompt_selection(name: str, prompts: dict[str, Any]) -> Selection:
    """The prompt of the task that is looked at."""
    inputs, model = task_inputs.tokenize(name, prompts), models.load(name)
    names = [str(i + 1) for i in range(len(inputs))]

    def label(number: str) -> str:
        i = int(number) - 1
        answers = [visible(model.tokenizer.decode([token])) for token in inputs.answer[i]]
        return f"{number}: {inputs.texts[i][0].replace(LINE, ' ↵ ')} → {', '.join(answers)}"

    number = url_widgets.select("Looked at, and not the side bar’s prompt", names, "closely", format_func=label)
    ids = inputs.clean[int(number) - 1].tolist()
    return Selection(f"prompt {number}", name, model, models.look(name, ids), sidebar.selected_head(model))


def task_score(side: Selection, choice: str, prompts: dict[str, Any]) -> Score:
    """A score of `AVERAGED`; grey until it is there, and how far it is is drawn."""
    key = result_files.result_key(KIND, side.model_name, side.model, prompts)
    job = {"model": side.model_name, "prompts": prompts, "label": f"scores on {prompts['task']}"}
    found = awaited(KIND, key, job, _read, "Score the prompts again")
    if found is not None:
        return score(found, choice)
    shape, title = (side.model.n_layers, side.model.n_heads), PROMPT_SCORES[choice].capitalize()
    return empty_score(shape, title, NO_VALUE)


def score(scores: HeadScores, name: str) -> Score:
    """One score of all heads."""
    values, units = scores[name], UNITS[name]
    task, n = scores.info["task"], scores.info["n"]
    title = f"{PROMPT_SCORES[name].capitalize()} (mean over {n} prompt{'' if n == 1 else 's'} of {task})"
    if name not in scores.samples:
        return Score(values, title, units, "No token of these prompts occurs twice, so no head has a value.")
    low, high = scores.interval(name)
    used = len(scores.samples[name])
    ends = [f", 95 % [{a:.3g}, {b:.3g}]" if used > 1 else "" for a, b in zip(low.ravel(), high.ravel(), strict=True)]
    texts = np.array([f"{v:.3g} {units}{end}" for v, end in zip(values.ravel(), ends, strict=True)], dtype=object)
    texts = texts.reshape(values.shape)
    caveat = " One prompt gives no interval." if used == 1 else f" Intervals of n = {used} are rough."
    rough = caveat if used < FEW_PROMPTS else ""
    metadata = {"task": task, "n": n, "seed": scores.info.get("seed"), "low": low.T, "high": high.T}
    if name == ATTRIBUTION:
        level = float(np.abs(scores.uniform[name]).mean())
        note = (
            f"To the answer’s logit over the wrong answer’s; 0: pushes to neither. Mean magnitude "
            f"{np.abs(values).mean():.3g}; {level:.3g} if every head attended uniformly.{rough}"
        )
        return Score(values, title, units, note, [-level, level], signed=True, texts=texts, metadata=metadata)
    level = float(scores.uniform[name])
    few = "" if used == n else f" Of the {used} prompts in which a token occurs twice."
    note = f"Chance: a uniform head has {level:.3g}.{few}{rough}"
    return Score(values, title, units, note, [level], texts=texts, metadata=metadata)


@st.cache_resource(max_entries=MAX_TASKS, show_spinner=False)
def _read(key: str) -> HeadScores:
    return HeadScores.load(result_files.result_path(KIND, key))
