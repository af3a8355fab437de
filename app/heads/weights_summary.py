"""A head's circuits by its weights alone: their sizes, what it copies, the earlier heads that it reads, and what it
promotes for the tokens that it attends to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app import models
from app.heads import model_scores
from app.heads.detail import show_table
from app.heads.model_scores import ModelScores, strongest_partners
from app.heads.selection import Selection
from app.heads.weights import ov_qk_summary, promoted_tokens
from workbench.core import Head
from workbench.head_scores.weights import HeadWeights
from workbench.plotting.attention_view import visible

#: Heads that stay in memory; earlier heads that are listed a way of reading; tokens, and what each promotes.
MAX_HEADS, PARTNERS, TOKENS, PROMOTED = 512, 3, 5, 5
#: Heads whose weights stay in memory.
MAX_HEAD_WEIGHTS = 4


def show(side: Selection, waits: bool) -> None:
    """The summary.

    Args:
        waits: whether the page already says how far the background scores are.
    """
    st.markdown("**OV and QK circuits** (weights alone)")
    known = model_scores.ready(side.model_name)
    show_table(size_table(side, known))
    if not waits:
        known = model_scores.offered(side.model_name)
    if known is not None:
        row = side.head.layer * side.model.n_heads + side.head.index
        st.caption(_copy_score_text(known, side.head))
        show_table(composition_table(known, row))


def size_table(side: Selection, model_scores: ModelScores | None) -> pd.DataFrame:
    """Norm, effective rank and the largest singular value's share of both circuits, beside random weights' where these
    are known."""
    circuits = _circuits(side.model_name, side.head)
    quantities = {
        "norm": "norm (Frobenius)",
        "rank": f"effective rank (of {side.model.d_head})",
        "first": "largest σ² / Σσ²",
    }
    rows = []
    for quantity, label in quantities.items():
        rows.append({"": label} | {name: circuit[quantity] for name, circuit in circuits.items()})
        if model_scores is not None and quantity != "first":
            levels = {name: model_scores.chance[f"{name.lower()}_{quantity}"]["random"] for name in circuits}
            rows.append({"": "… of random weights"} | levels)
    return pd.DataFrame(rows)


def composition_table(model_scores: ModelScores, row: int) -> pd.DataFrame:
    """The earlier heads whose output the head's q, k and v read most, beside what unrelated heads have."""
    rows = []
    for kind in "qkv":
        best = strongest_partners(model_scores.scores, f"{kind}_composition", row, PARTNERS)
        rows.append({"reads by": kind.upper(), "strongest": ", ".join(f"{head} ({value:.3f})" for head, value in best)})
    level = model_scores.scores.info["unrelated_composition"]
    return pd.DataFrame(rows).assign(unrelated=level)


def show_ov_tokens(side: Selection, dest: int) -> None:
    """For the tokens that a position attends to most: what the head's OV circuit promotes."""
    row = side.record.pattern(side.head)[dest]
    places = np.argsort(-row, kind="stable")[:TOKENS]
    ids = list(dict.fromkeys(side.record.ids[places].tolist()))
    words = side.model.to_str_tokens(side.record.ids[places])
    where = dict(zip(side.record.ids[places].tolist(), words, strict=True))
    st.markdown(
        "**OV circuit, token by token** (weights alone)",
        help="For the tokens attended to most: what the head promotes through embedding, V, O and unembedding. "
        "Positions, and what earlier layers add to a token, are left out.",
    )
    best = promoted_tokens(side.model, _weights(side.model_name, side.head), ids, PROMOTED)
    rows = [
        {"attended token": visible(where[i]), "promotes": " ".join(visible(token) for token in tokens)}
        for i, tokens in zip(ids, best, strict=True)
    ]
    show_table(pd.DataFrame(rows))


@st.cache_resource(max_entries=MAX_HEADS, show_spinner=False)
def _circuits(name: str, head: Head) -> dict[str, dict[str, float]]:
    return ov_qk_summary(_weights(name, head))


@st.cache_resource(max_entries=MAX_HEAD_WEIGHTS, show_spinner=False)
def _weights(name: str, head: Head) -> HeadWeights:
    return HeadWeights.of(models.load(name), head)


def _copy_score_text(model_scores: ModelScores, head: Head) -> str:
    value, chance = model_scores.scores["copy_score"][head.layer, head.index], model_scores.chance["copy_score"]
    return (
        f"Copy score {value:.3f}: 1 raises what it attends to, −1 lowers it (random weights {chance['random']:.3f}, "
        f"95th percentile {chance['random_95']:.3f})."
    )
