"""The list of scores, the chosen one, and the grid that shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from app import url_widgets
from app.components.head_grid import head_grid
from app.downloadable import Chart, download_buttons
from app.heads import model_scores, sweep_effect
from app.heads.score import NO_VALUE, PROMPT_SCORES, Score, empty_score, prompt_score
from app.heads.selection import Selection
from app.messages import show_errors
from workbench.core import Head

#: In the link → label.
LABELS = {
    **PROMPT_SCORES,
    sweep_effect.EFFECT: sweep_effect.LABEL,
    **{key: label for key, (_, label) in model_scores.LISTED.items()},
}


def score_widget() -> str:
    """The list."""
    return url_widgets.select("Colour heads by", list(LABELS), "score", format_func=LABELS.__getitem__)


def selected_score(side: Selection, choice: str) -> Score:
    """The chosen score of a side; grey where it is not there yet, and why is drawn."""
    if choice in PROMPT_SCORES:
        return prompt_score(side.record, side.head, choice)
    shape, label = (side.model.n_layers, side.model.n_heads), LABELS[choice]
    title = label[0].upper() + label[1:]
    if choice in model_scores.LISTED:
        known = model_scores.asked(side.model_name)
        if known is not None:
            return model_scores.score(known, choice)
        return empty_score(shape, title, NO_VALUE)
    key = sweep_effect.newest_sweep_key(side.model_name)
    if key is None:
        return empty_score(shape, title, "No sweep of this model yet: run a sweep on the page Patching.")
    with show_errors():
        return sweep_effect.score(side.model, key)
    return empty_score(shape, title, "")


def show_score(
    score: Score,
    selected: Head,
    key: str,
    on_pick: Callable[[Head], None],
    *,
    label: str = "",
    limit: float | None = None,
    also: frozenset[Head] = frozenset(),
    about: Mapping[str, Any] | None = None,
) -> None:
    """The grid of a score, with downloads where there is a value.

    Args:
        also: heads with a frame beside the score's own.
        about: what the downloaded data say of themselves besides.
    """
    title = f"{label}: {score.title}" if label else score.title
    head_grid(
        np.asarray(score.values),
        title=title,
        units=score.units,
        note=score.note,
        selected=selected,
        diverging=score.signed,
        levels=score.levels,
        limit=limit,
        texts=score.texts,
        marked=score.marked | also,
        key=key,
        on_pick=on_pick,
    )
    values = np.asarray(score.values)
    if not np.isfinite(values).any():
        return
    options = {"title": title, "subtitle": score.note, "scale": score.units, "x_title": "layer", "y_title": "head"}
    names = tuple([str(i) for i in range(size)] for size in values.shape)
    data = {**(about or {}), **score.metadata}
    chart = Chart("heatmap", (values.T,), names, {**options, "diverging": score.signed, "limit": limit}, data)
    download_buttons(chart, key, f"heads-{key}")
