"""Two prompts, two heads or two models side by side, and their difference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from jaxtyping import Float

from app import sidebar
from app.downloadable import show
from app.heads import detail, pattern_chart, score_grid, second_selection
from app.heads.detail import SCALES
from app.heads.prompt_record import Look
from app.heads.score import ON_PROMPT, SIMILARITY, difference
from app.heads.selection import Side
from workbench.plotting import style
from workbench.plotting.attention_view import visible

#: Next tokens of each side.
ROWS = 8


def draw(first: Side, second: Side, kind: str, choice: str) -> None:
    """The grids, the patterns and the next tokens."""
    _grids(first, second, kind, choice)
    _patterns(first, second, kind)


def _grids(first: Side, second: Side, kind: str, choice: str) -> None:
    one = score_grid.of(first, choice)
    same = first.name == second.name and choice not in ON_PROMPT
    other = one if same else score_grid.of(second, choice)
    one, other = (replace(score, signed=one.signed or other.signed) for score in (one, other))
    limit = max(style.limit(one.values), style.limit(other.values))
    heads = kind == second_selection.HEAD
    words: dict[str, Any]
    left, middle, right = st.columns(3, gap="medium")
    with left:
        also = frozenset({second.head}) if heads else frozenset()
        words = {"label": _name(first, kind), "limit": limit, "also": also, "about": first.about}
        score_grid.draw(one, first.head, "grid", sidebar.choose, **words)
    with middle:
        also, pick = (
            (frozenset({first.head}), second_selection.choose_second) if heads else (frozenset(), sidebar.choose)
        )
        words = {"label": _name(second, kind), "limit": limit, "also": also, "about": second.about}
        score_grid.draw(other, second.head, "grid-second", pick, **words)
    with right:
        if not second_selection.same_shape(first, second):
            st.info(f"No difference head by head: {_shape(first)} in {first.name}, {_shape(second)} in {second.name}.")
        elif heads and choice != SIMILARITY:
            st.info(
                "Both grids hold the same numbers: a click in the left one chooses the first head, in the other "
                "the second."
            )
        elif same:
            st.info("This score is the same for every prompt.")
        else:
            about = {"first": first.about, "second": second.about}
            score_grid.draw(difference(one, other), first.head, "grid-difference", sidebar.choose, about=about)


def _patterns(first: Side, second: Side, kind: str) -> None:
    shown = detail.pattern_kind()
    values = [detail.pattern_of(side.look, side.head, shown) for side in (first, second)]
    alike = len(first.look) == len(second.look)
    block = detail.block_of(len(first.look)) if alike else None
    dest = detail.destination(first.look) if alike else -1
    limit = max(style.limit(each) for each in values)
    for column, side, each, key in zip(
        st.columns(2, gap="medium"), (first, second), values, ("first", "second"), strict=True
    ):
        with column:
            title = f"Head {side.head} · {_name(side, kind)}"  # short: a telephone cuts what is longer
            drawn = pattern_chart.shown(
                each, side.look.tokens, title=title, scale=SCALES[shown], block=block, limit=limit
            )
            show(drawn, f"pattern-{key}", f"pattern-{side.label}-{side.head}")
            detail.attended(side.look, side.head, dest)
    left, right = st.columns(2, gap="medium")
    with left:
        if alike:
            _pattern_difference(first, second, values, shown, block)
        else:
            st.info(f"No difference of patterns: the prompts have {len(first.look)} and {len(second.look)} tokens.")
    with right:
        _next_tokens(first, second, kind)


def _pattern_difference(
    first: Side,
    second: Side,
    values: list[Float[np.ndarray, "dest src"]],
    shown: str,
    block: tuple[int, int] | None,
) -> None:
    pairs = zip(first.look.tokens, second.look.tokens, strict=True)
    tokens = [a if a == b else f"{a} / {visible(b)}" for a, b in pairs]
    title, scale = f"First − second: {shown} pattern", f"difference of {SCALES[shown]}"
    drawn = pattern_chart.shown(values[0] - values[1], tokens, title=title, scale=scale, block=block, signed=True)
    show(drawn, "pattern-difference", "pattern-difference")


def _next_tokens(first: Side, second: Side, kind: str) -> None:
    st.markdown("**Next token** (probability)")
    if kind == second_selection.HEAD:
        st.caption("Of the whole model, so the same for both heads.")
        detail.table(detail.following(first.look))
        return
    detail.table(next_tokens(first.look, second.look))
    if kind == second_selection.MODEL:
        st.caption("None: the model has no such token.")
    if first.name == second.name:
        distance = float((first.look.probabilities - second.look.probabilities).abs().sum()) / 2
        st.caption(f"Total variation distance {distance:.3f}: 0 where both say the same, 1 where they share no token.")


def next_tokens(first: Look, second: Look) -> pd.DataFrame:
    """The likeliest next tokens of both: ``token, first, second, first − second``. Two models may not have the same
    tokens: they are then compared as text, with NaN where a model has no token of that text."""
    if first.model is second.model:
        found = {t.id: t.token for look in (first, second) for t in look.next_tokens(ROWS)}
        rows = [(token, *(float(look.probabilities[i]) for look in (first, second))) for i, token in found.items()]
    else:
        near = [(look, {t.token: t.probability for t in look.next_tokens(ROWS)}) for look in (first, second)]
        texts = dict.fromkeys(text for _, own in near for text in own)
        rows = [(text, *(own.get(text, probability(look, text)) for look, own in near)) for text in texts]
    frame = pd.DataFrame(rows, columns=["token", "first", "second"])
    frame = frame.assign(difference=frame["first"] - frame["second"])
    order = np.argsort(-frame[["first", "second"]].max(axis=1).to_numpy(), kind="stable")
    return frame.iloc[order].assign(token=lambda f: [visible(text) for text in f["token"]])


def probability(look: Look, text: str) -> float:
    """Of a text as the next token; NaN where it is no single token."""
    ids = look.model.tokenizer.encode(text, add_special_tokens=False)
    return float(look.probabilities[ids[0]]) if len(ids) == 1 else np.nan


def _name(side: Side, kind: str) -> str:
    return side.name if kind == second_selection.MODEL else f"{side.label.capitalize()} {kind}"


def _shape(side: Side) -> str:
    return f"{side.model.n_layers} × {side.model.n_heads} heads"
