"""Heads on a task's prompts: each score as the mean over the prompts with its interval, computed by the worker process;
one of the prompts is shown in detail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from app import models, sidebar, task_inputs, url_widgets
from app.heads.record_scores import ATTRIBUTION
from app.heads.records import prompt_record
from app.heads.score import (
    MATCHED,
    NO_VALUE,
    NOT_STARTED,
    PROMPT_SCORES,
    SIMILARITY,
    UNIFORM,
    Score,
    below_zero,
    empty_score,
    mean_over,
    mean_size,
    nothing,
)
from app.heads.selection import Selection, open_head
from app.swapped_names import job_model
from app.work.background import Background
from app.work.result_files import TASK_SCORES, result_key
from workbench.head_scores import on_prompt
from workbench.head_scores.compute import VERSION
from workbench.head_scores.ranking import BY_SIZE
from workbench.head_scores.result import UNITS, HeadScores
from workbench.io.tables import printed
from workbench.io.token_text import token_text
from workbench.plotting.attention_view import visible

PROMPT, TASK = "one prompt", "a task"
#: Parameter of the URL: which of the task's prompts is shown in detail.
CLOSELY = "closely"
#: Scores that have a mean over prompts.
AVERAGED = tuple(name for name in PROMPT_SCORES if name != SIMILARITY)
LINE = "\n"
#: With fewer prompts intervals are rough.
FEW_PROMPTS = 6
#: Tasks whose scores stay in memory.
MAX_TASKS = 8


def source_widget() -> str:
    """Whether the side bar's prompt is scored, or a task's prompts."""
    return url_widgets.segments("Scores on", [PROMPT, TASK], "scored")


def prompt_selection(model_name: str, prompts: dict[str, Any]) -> Selection:
    """The prompt of the task that is shown in detail."""
    inputs, model = task_inputs.tokenize(model_name, prompts), models.load(model_name)
    numbers = [str(i + 1) for i in range(len(inputs))]

    def label(number: str) -> str:
        i = int(number) - 1
        answers = [visible(token_text(model.tokenizer, token)) for token in inputs.answer[i]]
        return f"{number}: {inputs.texts[i][0].replace(LINE, ' ↵ ')} → {', '.join(answers)}"

    number = url_widgets.select("Prompt in detail", numbers, CLOSELY, format_func=label)
    st.caption("The side bar’s prompt is not used here.")
    record = prompt_record(model_name, inputs.clean[int(number) - 1].tolist())
    return Selection(f"prompt {number}", model_name, model, record, open_head(model_name, model))


def task_score(selection: Selection, name: str, prompts: dict[str, Any]) -> Score:
    """A score of `AVERAGED`; empty until it is computed, with its progress."""
    key = result_key(TASK_SCORES, selection.model_name, selection.model, prompts, on_prompt.VERSION, VERSION)
    request = {**job_model(selection.model_name), "prompts": prompts, "label": f"scores on {prompts['task']}"}
    may_start = not url_widgets.stands_in(sidebar.MODEL, *task_inputs.PARAMS)
    scores = Background(TASK_SCORES, key, request, _read, "Compute the scores on the task").result(start=may_start)
    if scores is not None:
        return mean_score(scores, name)
    shape = (selection.model.n_layers, selection.model.n_heads)
    return empty_score(shape, PROMPT_SCORES[name].capitalize(), NO_VALUE if may_start else NOT_STARTED)


def mean_score(scores: HeadScores, name: str) -> Score:
    """One score of all heads: its mean over the prompts."""
    values, units = scores[name], UNITS[name]
    task, n = scores.info["task"], scores.info["n"]
    title = f"{PROMPT_SCORES[name].capitalize()} (mean over {n} prompt{'' if n == 1 else 's'} of {task})"
    metadata = {"task": task, "n": n, "seed": scores.info.get("seed")}
    without = scores.without_value(name)
    if not np.isfinite(values).any():
        return nothing(Score(values, title, units, "", without=without, metadata=metadata))
    used, positions = len(scores.samples[name]), scores.positions[name]
    low, high = scores.interval(name) if used > 1 else (None, None)
    rough = f" Intervals over {used} prompts are rough." if used > 1 else " With one prompt there is no interval."
    caveat = rough if used < FEW_PROMPTS else ""
    if name == ATTRIBUTION:
        level = mean_size(np.asarray(scores.uniform[name]))
        note = (
            f"Direct effect on the answer’s logit minus the wrong answer’s, at the last position of {used} "
            f"prompt{'' if used == 1 else 's'}. 0: no direct effect. Mean |value| over heads: "
            f"{mean_size(values):.3g}; with {UNIFORM}: {level:.3g}.{caveat}"
        )
        levels = [-level, level]
    else:
        levels = [float(scores.uniform[name])]
        note = f"{mean_over(name, positions, used)} Chance level: {UNIFORM} {printed(levels[0])}"
        note += f"{below_zero(name, levels[0])}.{caveat}"
    return Score(
        *(values, title, units, note, levels, name in (*MATCHED, ATTRIBUTION), _texts(values, low, high, units)),
        by_size=name in BY_SIZE,
        low=low,
        high=high,
        chance=scores.uniform[name],
        chance_name=UNIFORM,
        positions=positions,
        without=without,
        metadata=metadata,
    )


def _texts(values: np.ndarray, low: np.ndarray | None, high: np.ndarray | None, units: str) -> np.ndarray:
    """Value and interval of each head."""
    texts = np.array([f"{printed(v)} {units}" if np.isfinite(v) else "no value" for v in values.ravel()], dtype=object)
    if low is not None and high is not None:
        ends = zip(low.ravel(), high.ravel(), strict=True)
        texts += [f", 95 % [{printed(a)}, {printed(b)}]" if np.isfinite(a) else "" for a, b in ends]
    return texts.reshape(values.shape)


@st.cache_resource(max_entries=MAX_TASKS, show_spinner=False)
def _read(path: Path) -> HeadScores:
    return HeadScores.load(path)
