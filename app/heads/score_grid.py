"""The list of scores, the chosen one, and the grid that shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from app import url_widgets
from app.components.head_grid import head_grid
from app.downloadable import Shown, downloads
from app.heads import model_scores, sweep_effect
from app.heads.score import NO_VALUE, ON_PROMPT, Score, nothing, on_prompt
from app.heads.selection import Side
from app.markdown import guarded
from workbench.core import Head

#: In the link → label.
LABELS = {
    **ON_PROMPT,
    sweep_effect.EFFECT: sweep_effect.LABEL,
    **{key: label for key, (_, label) in model_scores.LISTED.items()},
}


def choose() -> str:
    """The list."""
    return url_widgets.select("Colour heads by", list(LABELS), "score", format_func=LABELS.__getitem__)


def of(side: Side, choice: str) -> Score:
    """The chosen score of a side; grey where it is not there yet, and why is drawn."""
    if choice in ON_PROMPT:
        return on_prompt(side.look, side.head, choice)
    shape, label = (side.model.n_layers, side.model.n_heads), LABELS[choice]
    title = label[0].upper() + label[1:]
    if choice in model_scores.LISTED:
        known = model_scores.asked(side.name)
        if known is not None:
            return model_scores.score(known, choice)
        return nothing(shape, title, NO_VALUE)
    key = sweep_effect.newest(side.name)
    if key is None:
        return nothing(shape, title, "No sweep of this model yet: run a sweep on the page Patching.")
    with guarded():
        return sweep_effect.score(side.model, key)
    return nothing(shape, title, "")


def draw(
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
    words = {"title": title, "subtitle": score.note, "scale": score.units, "x_title": "layer", "y_title": "head"}
    names = tuple([str(i) for i in range(size)] for size in values.shape)
    data = {**(about or {}), **score.about}
    drawn = Shown("heatmap", (values.T,), names, {**words, "diverging": score.signed, "limit": limit}, data)
    downloads(drawn, key, f"heads-{key}")
