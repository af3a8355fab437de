"""Two prompts, two heads or two models side by side, and their difference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from jaxtyping import Float

from app import sidebar
from app.downloadable import show_chart
from app.heads import detail, pattern_chart, score_grid, second_selection
from app.heads.detail import SCALES
from app.heads.prompt_record import PromptRecord
from app.heads.score import PROMPT_SCORES, SIMILARITY, difference
from app.heads.selection import Selection
from workbench.plotting import style
from workbench.plotting.attention_view import visible

#: Next tokens of each side.
ROWS = 8


def show(first: Selection, second: Selection, kind: str, choice: str) -> None:
    """The grids, the patterns and the next tokens."""
    _grids(first, second, kind, choice)
    _patterns(first, second, kind)


def _grids(first: Selection, second: Selection, kind: str, choice: str) -> None:
    one = score_grid.selected_score(first, choice)
    same = first.model_name == second.model_name and choice not in PROMPT_SCORES
    other = one if same else score_grid.selected_score(second, choice)
    one, other = (replace(score, signed=one.signed or other.signed) for score in (one, other))
    limit = max(style.limit(one.values), style.limit(other.values))
    heads = kind == second_selection.HEAD
    options: dict[str, Any]
    left, middle, right = st.columns(3, gap="medium")
    with left:
        also = frozenset({second.head}) if heads else frozenset()
        options = {"label": _name(first, kind), "limit": limit, "also": also, "about": first.metadata}
        score_grid.show_score(one, first.head, "grid", sidebar.select_head, **options)
    with middle:
        also, pick = (
            (frozenset({first.head}), second_selection.select_second_head)
            if heads
            else (frozenset(), sidebar.select_head)
        )
        options = {"label": _name(second, kind), "limit": limit, "also": also, "about": second.metadata}
        score_grid.show_score(other, second.head, "grid-second", pick, **options)
    with right:
        if not second_selection.same_shape(first, second):
            st.info(f"No difference head by head: {_shape(first)} in {first.model_name}, {_shape(second)} in {second.model_name}.")
        elif heads and choice != SIMILARITY:
            st.info(
                "Both grids hold the same numbers: a click in the left one chooses the first head, in the other "
                "the second."
            )
        elif same:
            st.info("This score is the same for every prompt.")
        else:
            about = {"first": first.metadata, "second": second.metadata}
            score_grid.show_score(
                difference(one, other), first.head, "grid-difference", sidebar.select_head, about=about
            )


def _patterns(first: Selection, second: Selection, kind: str) -> None:
    kind2 = detail.pattern_kind()
    values = [detail.pattern_values(side.record, side.head, kind2) for side in (first, second)]
    same_length = len(first.record) == len(second.record)
    block = detail.block_widget(len(first.record)) if same_length else None
    dest = detail.destination_slider(first.record) if same_length else -1
    limit = max(style.limit(each) for each in values)
    for column, side, each, key in zip(
        st.columns(2, gap="medium"), (first, second), values, ("first", "second"), strict=True
    ):
        with column:
            title = f"Head {side.head} · {_name(side, kind)}"  # short: a telephone cuts what is longer
            drawn = pattern_chart.pattern_chart(
                each, side.record.tokens, title=title, scale=SCALES[kind2], block=block, limit=limit
            )
            show_chart(drawn, f"pattern-{key}", f"pattern-{side.label}-{side.head}")
            detail.show_attended_tokens(side.record, side.head, dest)
    left, right = st.columns(2, gap="medium")
    with left:
        if same_length:
            _pattern_difference(first, second, values, kind2, block)
        else:
            st.info(f"No difference of patterns: the prompts have {len(first.record)} and {len(second.record)} tokens.")
    with right:
        _next_tokens(first, second, kind)


def _pattern_difference(
    first: Selection,
    second: Selection,
    values: list[Float[np.ndarray, "dest src"]],
    shown: str,
    block: tuple[int, int] | None,
) -> None:
    pairs = zip(first.record.tokens, second.record.tokens, strict=True)
    tokens = [a if a == b else f"{a} / {visible(b)}" for a, b in pairs]
    title, scale = f"First − second: {shown} pattern", f"difference of {SCALES[shown]}"
    drawn = pattern_chart.pattern_chart(
        values[0] - values[1], tokens, title=title, scale=scale, block=block, signed=True
    )
    show_chart(drawn, "pattern-difference", "pattern-difference")


def _next_tokens(first: Selection, second: Selection, kind: str) -> None:
    st.markdown("**Next token** (probability)")
    if kind == second_selection.HEAD:
        st.caption("Of the whole model, so the same for both heads.")
        detail.show_table(detail.next_token_table(first.record))
        return
    detail.show_table(next_tokens(first.record, second.record))
    if kind == second_selection.MODEL:
        st.caption("None: the model has no such token.")
    if first.model_name == second.model_name:
        distance = float((first.record.probabilities - second.record.probabilities).abs().sum()) / 2
        st.caption(f"Total variation distance {distance:.3f}: 0 where both say the same, 1 where they share no token.")


def next_tokens(first: PromptRecord, second: PromptRecord) -> pd.DataFrame:
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


def probability(look: PromptRecord, text: str) -> float:
    """Of a text as the next token; NaN where it is no single token."""
    ids = look.model.tokenizer.encode(text, add_special_tokens=False)
    return float(look.probabilities[ids[0]]) if len(ids) == 1 else np.nan


def _name(side: Selection, kind: str) -> str:
    return side.model_name if kind == second_selection.MODEL else f"{side.label.capitalize()} {kind}"


def _shape(side: Selection) -> str:
    return f"{side.model.n_layers} × {side.model.n_heads} heads"
