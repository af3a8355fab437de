"""The list of scores, the selected one, and the grid that shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from app import sidebar, url_widgets
from app.components.head_grid import head_grid
from app.downloadable import Chart, download_buttons
from app.heads import model_scores, sweep_effect
from app.heads.asking import PAIR_SCORE, Asking, earlier_score
from app.heads.score import (
    COUNTED,
    NO_VALUE,
    NOT_STARTED,
    PROMPT_SCORES,
    SIMILARITY,
    Score,
    empty_score,
    pair_score,
    prompt_score,
)
from app.heads.selection import Selection
from app.messages import show_errors
from workbench.core import Head
from workbench.plotting.source import Source

#: Value of the URL's ``score`` → label.
LABELS = {
    **PROMPT_SCORES,
    PAIR_SCORE: "attention of the pair",
    sweep_effect.EFFECT: sweep_effect.LABEL,
    **{key: label for key, (_, label) in model_scores.LISTED.items()},
}


#: The positions that each score is taken over.
HELP = (
    f"Positions that count: all, but for these scores. **Previous token**: {COUNTED['previous_token']}. **Duplicate "
    f"token**: {COUNTED['duplicate_token']}; what counts is the attention to that earlier place. **Induction**: "
    f"{COUNTED['induction']}; what counts is the attention to what followed that earlier place. Of these two only "
    "positions count whose keys other later positions see, too; on *repeated random tokens* it is the second half of "
    "each sequence. **Direct logit attribution**: the last. **Names copied**, **suppressed**: those that hold a token "
    "of the answers or wrong answers. Scores of *weights* are taken over none."
)


def score_widget() -> str:
    """The list of scores."""
    return url_widgets.select("Colour heads by", list(LABELS), "score", format_func=LABELS.__getitem__, help=HELP)


def pair_line() -> str:
    """What the grid shows while it shows a pair, and how its earlier score comes back."""
    what = "The grid and the ranking show the attention of the pair in every head."
    earlier = earlier_score()
    if earlier is None:
        return f"{what} For another score, select one in *Colour heads by*."
    return f"{what} When you ask in *this head* again, they show {LABELS[earlier]} again."


def selected_score(selection: Selection, name: str, asking: Asking | None = None) -> Score:
    """The score of that name; empty where it is not computed yet, with a line that says why."""
    if name in PROMPT_SCORES:
        return prompt_score(selection.record, selection.head, name)
    if name == PAIR_SCORE and asking is not None:
        return pair_score(selection.record, asking.dest, asking.src)
    shape, label = (selection.model.n_layers, selection.model.n_heads), LABELS[name]
    title = label[0].upper() + label[1:]
    if name == PAIR_SCORE:
        return empty_score(shape, title, "No pair: the two prompts have different numbers of tokens.")
    if name in model_scores.LISTED:
        may_start = not url_widgets.stands_in(sidebar.MODEL)
        scores = model_scores.background(selection.model_name).result(start=may_start)
        if scores is None:
            return empty_score(shape, title, NO_VALUE if may_start else NOT_STARTED)
        return model_scores.score(scores, name)
    key = sweep_effect.newest_sweep_key(selection.model_name, selection.model)
    if key is None:
        return empty_score(shape, title, "There is no sweep of this model yet. Run one on the Patching page.")
    with show_errors():
        return sweep_effect.score(selection.model, key)
    return empty_score(shape, title, "")


def source_of(selection: Selection, name: str, score: Score) -> Source:
    """What a score of all heads is of: the prompt where it is of the prompt, and the open head where it is of that."""
    of_prompt = name in (*PROMPT_SCORES, PAIR_SCORE) and "task" not in score.metadata
    source = selection.source
    return replace(
        source,
        prompt=source.prompt if of_prompt else "",
        head=source.head if name == SIMILARITY else "",
        task=str(score.metadata.get("task") or ""),
    )


def show_score(
    score: Score,
    selected: Head,
    key: str,
    on_pick: Callable[[Head], None],
    *,
    name: str,
    label: str = "",
    limit: float | None = None,
    also_marked: frozenset[Head] = frozenset(),
    source: Source | None = None,
) -> None:
    """The grid of a score, with downloads where there is a value.

    Args:
        name: of the downloads' files.
        also_marked: heads with a frame besides the score's own.
        source: what the downloads name.
    """
    title = f"{label}: {score.title}" if label else score.title
    values = np.asarray(score.values)
    head_grid(
        values,
        title=title,
        units=score.units,
        note=score.note,
        selected=selected,
        diverging=score.signed,
        levels=score.levels,
        limit=limit,
        texts=score.texts,
        marked=score.marked | also_marked,
        key=key,
        on_pick=on_pick,
    )
    if not np.isfinite(values).any():
        return
    options = {"title": title, "subtitle": score.note, "scale": score.units, "x_title": "layer", "y_title": "head"}
    options |= {"diverging": score.signed, "limit": limit}
    labels = tuple([str(i) for i in range(size)] for size in values.shape)
    facts = {name: fact for name, fact in score.facts().items() if name not in ("chance_level", "task")}
    chart = Chart("heatmap", (values.T,), labels, options, score.data(), source or Source(), facts)
    download_buttons(chart, key, f"heads-{name}")
