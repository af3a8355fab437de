"""Two prompts, two heads or two models side by side, and their difference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from jaxtyping import Bool, Float

from app import sidebar
from app.heads import detail, score_grid
from app.heads.asking import PAIR_SCORE, Asking, asking_widgets
from app.heads.detail import SCALES
from app.heads.pattern_chart import Ranges, pattern_chart
from app.heads.prompt_record import PromptRecord
from app.heads.score import PROMPT_SCORES, SIMILARITY, difference
from app.heads.second_selection import HEAD, MODEL, PROMPT, same_shape, second_prompt, select_second_head
from app.heads.selection import Selection
from app.heads.to_patching import patch_button
from app.small_table import show_table
from workbench.plotting import style
from workbench.plotting.attention_view import visible

#: Layers of grids that stand side by side, as ``page.css`` has room for them.
MOST_BESIDE = 31
#: Next tokens of each side.
ROWS = 8


def show_comparison(first: Selection, second: Selection, kind: str, score_name: str) -> None:
    """The grids, the patterns and the next tokens."""
    if kind == PROMPT:
        patch_button(first, sidebar.prompt(), second_prompt())
    grids, controls = st.container(), st.container()
    asking = None
    if len(first.record) == len(second.record):
        with controls:
            asking = asking_widgets(first.record, first.head)
    with grids:
        _grids(first, second, kind, score_name, asking)
    _patterns(first, second, kind, asking)


def _grids(first: Selection, second: Selection, kind: str, score_name: str, asking: Asking | None) -> None:
    left_score = score_grid.selected_score(first, score_name, asking)
    same_score = first.model_name == second.model_name and score_name not in (*PROMPT_SCORES, PAIR_SCORE)
    right_score = left_score if same_score else score_grid.selected_score(second, score_name, asking)
    signed = left_score.signed or right_score.signed
    left_score, right_score = (replace(score, signed=signed) for score in (left_score, right_score))
    limit = max(style.limit(left_score.values), style.limit(right_score.values))
    two_heads = kind == HEAD
    options: dict[str, Any]
    sources = [
        score_grid.source_of(side, score_name, score) for side, score in ((first, left_score), (second, right_score))
    ]
    deepest = max(len(score.values) for score in (left_score, right_score))
    with st.container(key="compared-grids" if deepest <= MOST_BESIDE else "compared-grids-deep"):
        left, middle, right = st.columns(3, gap="medium")
    with left:
        marked = frozenset({second.head}) if two_heads else frozenset()
        options = {"label": _name(first, kind), "limit": limit, "also_marked": marked, "source": sources[0]}
        score_grid.show_score(
            left_score, first.head, "grid", sidebar.select_head, name=f"{score_name}-first", **options
        )
    with middle:
        marked = frozenset({first.head}) if two_heads else frozenset()
        on_pick = select_second_head if two_heads else sidebar.select_head
        options = {"label": _name(second, kind), "limit": limit, "also_marked": marked, "source": sources[1]}
        score_grid.show_score(right_score, second.head, "grid-second", on_pick, name=f"{score_name}-second", **options)
    with right:
        if not same_shape(first, second):
            shapes = [f"{_shape(side)} in {side.model_name}" for side in (first, second)]
            st.info(f"No difference is shown, because the models differ in shape: {', '.join(shapes)}.")
        elif two_heads and score_name != SIMILARITY:
            st.info(
                "Both grids show the same scores. Click the left one for the first head, the right one for the second."
            )
        elif same_score:
            st.info("This score does not depend on the prompt.")
        else:
            score = difference(left_score, right_score)
            options = {"name": f"{score_name}-difference", "source": replace(sources[0], second=sources[1])}
            score_grid.show_score(score, first.head, "grid-difference", sidebar.select_head, **options)


def _patterns(first: Selection, second: Selection, kind: str, asking: Asking | None) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        pattern_kind, colours = detail.pattern_kind_widget(), detail.colours_widget()
    values = [detail.pattern_values(side.record, side.head, pattern_kind) for side in (first, second)]
    masks = [side.record.mask(side.head.layer) for side in (first, second)]
    ranges = None if asking is None else detail.range_widget(first.record)
    limits = [detail.limit_of(side.record, side.head, pattern_kind) for side in (first, second)]
    limit = 1.0 if limits == [1.0, 1.0] else max(map(style.limit, values))
    columns = st.columns(2, gap="medium")
    sides = zip(columns, (first, second), values, masks, ("first", "second"), strict=True)
    for column, side, pattern, masked, key in sides:
        with column:
            title = f"Head {side.head} · {_name(side, kind)}"  # short: a phone cuts a longer one
            options = {"limit": limit, "colours": colours, "source": side.source, "quantity": f"{pattern_kind} pattern"}
            options["masked"] = masked
            chart = pattern_chart(
                pattern, side.record.tokens, title=title, scale=SCALES[pattern_kind], ranges=ranges, **options
            )
            name = detail.file_name(f"{side.label}-{side.head}", pattern_kind)
            detail.show_pattern_chart(chart, f"pattern-{key}", name, pattern, asking)
            detail.show_text(side.record, side.head, asking, colours, f"text-{key}")
    left, right = st.columns(2, gap="medium")
    with left:
        if asking is not None:
            masked = masks[0] & masks[1]
            _pattern_difference(first, second, values, masked, pattern_kind, ranges, colours, asking)
        else:
            lengths = f"{len(first.record)} and {len(second.record)}"
            st.info(f"No difference is shown, because the prompts have {lengths} tokens.")
    with right:
        _next_tokens(first, second, kind)


def _pattern_difference(
    first: Selection,
    second: Selection,
    values: list[Float[np.ndarray, "dest src"]],
    masked: Bool[np.ndarray, "dest src"],
    pattern_kind: str,
    ranges: Ranges | None,
    colours: str,
    asking: Asking,
) -> None:
    pairs = zip(first.record.tokens, second.record.tokens, strict=True)
    tokens = [(a, a) if a == b else (f"{a} / {visible(b)}", f"{a} / {b}") for a, b in pairs]
    on_page, in_data = ([token[i] for token in tokens] for i in (0, 1))
    title, scale = f"First − second: {pattern_kind} pattern", f"difference of {SCALES[pattern_kind]}"
    difference = values[0] - values[1]
    source = replace(first.source, second=second.source)
    options = {"ranges": ranges, "signed": True, "colours": colours, "source": source, "data_tokens": in_data}
    options["masked"] = masked
    chart = pattern_chart(difference, on_page, title=title, scale=scale, **options)
    detail.show_pattern_chart(
        chart, "pattern-difference", detail.file_name("difference", pattern_kind), difference, asking
    )


def _next_tokens(first: Selection, second: Selection, kind: str) -> None:
    st.markdown("**Next token** (probability)")
    if kind == HEAD:
        st.caption("The whole model’s prediction, the same for both heads.")
        show_table(detail.next_token_table(first.record))
        return
    table = next_tokens(first.record, second.record)
    show_table(table)
    if kind == MODEL and bool(table.isna().to_numpy().any()):
        st.caption("–: the model’s vocabulary does not have this token.")
    if first.model_name == second.model_name:
        distance = float((first.record.probabilities - second.record.probabilities).abs().sum()) / 2
        st.caption(f"Total variation distance {distance:.3f} (0: equal distributions, 1: no token in common).")


def next_tokens(first: PromptRecord, second: PromptRecord) -> pd.DataFrame:
    """The likeliest next tokens of both: ``token, first, second, first − second``.

    Two models may have different vocabularies: they are compared by the tokens' text, with NaN where a model has no
    token of that text.
    """
    if first.model is second.model:
        tokens = {t.id: t.token for record in (first, second) for t in record.next_tokens(ROWS)}
        rows = [(token, *(float(record.probabilities[i]) for record in (first, second))) for i, token in tokens.items()]
    else:
        top = [(record, {t.token: t.probability for t in record.next_tokens(ROWS)}) for record in (first, second)]
        texts = dict.fromkeys(text for _, by_text in top for text in by_text)
        rows = [(text, *(by_text.get(text, probability(record, text)) for record, by_text in top)) for text in texts]
    frame = pd.DataFrame(rows, columns=["token", "first", "second"])
    frame = frame.assign(difference=frame["first"] - frame["second"])
    order = np.argsort(-frame[["first", "second"]].max(axis=1).to_numpy(), kind="stable")
    return frame.iloc[order].assign(token=lambda f: [visible(text) for text in f["token"]])


def probability(record: PromptRecord, text: str) -> float:
    """Of a text as the next token; NaN where it is not a single token."""
    ids = record.model.tokenizer.encode(text, add_special_tokens=False)
    return float(record.probabilities[ids[0]]) if len(ids) == 1 else np.nan


def _name(side: Selection, kind: str) -> str:
    return side.model_name if kind == MODEL else f"{side.label.capitalize()} {kind}"


def _shape(side: Selection) -> str:
    return f"{side.model.n_layers} × {side.model.n_heads} heads"
