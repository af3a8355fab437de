"""Heads: every head of the model on one prompt, and one head closely."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import streamlit as st

from app import chosen, models, options, pattern
from app.components.head_grid import head_grid
from app.look import Look
from app.page import Page
from app.shown import show
from workbench.attention_view import coloured
from workbench.head_scores.result import UNITS
from workbench.vocabulary import Head

SCORES = {
    "previous_token": "previous token",
    "duplicate_token": "duplicate token",
    "induction": "induction",
    "sink": "sink (first position)",
    "entropy": "entropy",
    "locality": "locality",
    "direct_logit_attribution": "direct logit attribution",
    "similarity": "similarity to the selected head",
}
SIGNED = frozenset({"direct_logit_attribution", "similarity"})


def render() -> None:
    began = time.perf_counter()
    name = chosen.model_name()
    model = models.load(name)
    look, head = models.look(name, chosen.ids(model)), chosen.head(model)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _grid(look, head)
        _closely(look, head)
    with right:
        _pattern(look, head)
    st.caption(f"Drawn in {1000 * (time.perf_counter() - began):.0f} ms.")


def _grid(look: Look, head: Head) -> None:
    score = options.select("Colour heads by", list(SCORES), "score", format_func=SCORES.__getitem__)
    values = look.similar(head) if score == "similarity" else look.scores[score]
    units = UNITS.get(score, "cosine")
    chance = look.chance.get(score)
    note = "" if chance is None else f"a uniform head: {chance:.3g}"
    if score == "direct_logit_attribution":
        first, second = look.next_tokens(2)
        note = f"{first.token!r} over {second.token!r}"
    title = f"{SCORES[score].capitalize()} of every head"
    head_grid(
        values,
        title=title + (f" · {note}" if note else ""),
        units=units,
        note=note,
        selected=head,
        diverging=score in SIGNED,
        key="grid",
        on_pick=chosen.choose,
    )


def _pattern(look: Look, head: Head) -> None:
    kinds = {"attention": look.pattern, "value-weighted": look.value_weighted}
    kind = options.segments("Pattern", list(kinds), "kind")
    names = pattern.blocks(len(look))
    block = None
    if names:
        part = options.select("Show", ["all, pooled", *names], "block")
        block = None if part == "all, pooled" else names.index(part)
    scale = "attention" if kind == "attention" else "attention × norm of what is moved"
    title = f"{kind.capitalize()} pattern of head {head}"
    show(
        pattern.shown(kinds[kind](head), look.tokens, title=title, scale=scale, block=block),
        "pattern",
        f"pattern-{head}",
    )


def _closely(look: Look, head: Head) -> None:
    st.subheader(f"Head {head}", anchor=False)
    last = len(look) - 1
    dest = options.slider("What does position … attend to?", 0, last, "dest", last)
    row = look.pattern(head)[dest]
    st.html(coloured(look.tokens, row))
    write, near, following = st.columns(3)
    with write:
        st.markdown("**Writes at the end** (logits)")
        _table(look.writes(head, 5))
    with near:
        st.markdown("**Nearest heads** (cosine of patterns)")
        _table(nearest(look.similar(head)))
    with following:
        st.markdown("**Next token**")
        _table(pd.DataFrame([{"token": repr(t.token), "probability": t.probability} for t in look.next_tokens(8)]))


def nearest(similar: np.ndarray, k: int = 8) -> pd.DataFrame:
    """The heads with the most similar patterns."""
    order = np.argsort(np.where(np.isfinite(similar), -similar, np.inf), axis=None, kind="stable")[:k]
    where = zip(*np.unravel_index(order, similar.shape), strict=True)
    return pd.DataFrame([{"head": f"{i}.{j}", "cosine": float(similar[i, j])} for i, j in where])


def _table(frame: pd.DataFrame) -> None:
    numbers = {name: st.column_config.NumberColumn(format="%.3f") for name in frame.select_dtypes("number")}
    st.dataframe(frame, hide_index=True, column_config=numbers, height="content")


page = Page("heads", "Heads", "grid_view", 1, render)
