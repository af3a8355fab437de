"""A head's circuits by its weights alone: their sizes, what it copies, the earlier heads that it reads, and what it
promotes for the tokens that it attends to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app import models
from app.heads import model_scores
from app.heads.detail import table
from app.heads.model_scores import Known, partners
from app.heads.selection import Side
from app.heads.weights import circuits, promoted
from workbench.core import Head
from workbench.head_scores.weights import HeadWeights
from workbench.plotting.attention_view import visible

#: Heads that stay in memory; earlier heads that are listed a way of reading; tokens, and what each promotes.
KEPT, PARTNERS, TOKENS, PROMOTED = 512, 3, 5, 5
#: Heads whose weights stay in memory.
WEIGHTS = 4


def draw(side: Side, waits: bool) -> None:
    """The summary.

    Args:
        waits: whether the page already says how far the background scores are.
    """
    st.markdown("**OV and QK circuits** (weights alone)")
    known = model_scores.ready(side.name)
    table(sizes(side, known))
    if not waits:
        known = model_scores.offered(side.name)
    if known is not None:
        row = side.head.layer * side.model.n_heads + side.head.index
        st.caption(_copies(known, side.head))
        table(readers(known, row))


def sizes(side: Side, known: Known | None) -> pd.DataFrame:
    """Norm, effective rank and the largest singular value's share of both circuits, beside random weights' where these
    are known."""
    found = _circuits(side.name, side.head)
    quantities = {
        "norm": "norm (Frobenius)",
        "rank": f"effective rank (of {side.model.d_head})",
        "first": "largest σ² / Σσ²",
    }
    rows = []
    for quantity, label in quantities.items():
        rows.append({"": label} | {name: circuit[quantity] for name, circuit in found.items()})
        if known is not None and quantity != "first":
            levels = {name: known.chance[f"{name.lower()}_{quantity}"]["random"] for name in found}
            rows.append({"": "… of random weights"} | levels)
    return pd.DataFrame(rows)


def readers(known: Known, row: int) -> pd.DataFrame:
    """The earlier heads whose output the head's q, k and v read most, beside what unrelated heads have."""
    rows = []
    for kind in "qkv":
        best = partners(known.scores, f"{kind}_composition", row, PARTNERS)
        rows.append({"reads by": kind.upper(), "strongest": ", ".join(f"{head} ({value:.3f})" for head, value in best)})
    level = known.scores.info["unrelated_composition"]
    return pd.DataFrame(rows).assign(unrelated=level)


def promotes(side: Side, dest: int) -> None:
    """For the tokens that a position attends to most: what the head's OV circuit promotes."""
    row = side.look.pattern(side.head)[dest]
    places = np.argsort(-row, kind="stable")[:TOKENS]
    ids = list(dict.fromkeys(side.look.ids[places].tolist()))
    words = side.model.to_str_tokens(side.look.ids[places])
    where = dict(zip(side.look.ids[places].tolist(), words, strict=True))
    st.markdown(
        "**OV circuit, token by token** (weights alone)",
        help="For the tokens attended to most: what the head promotes through embedding, V, O and unembedding. "
        "Positions, and what earlier layers add to a token, are left out.",
    )
    best = promoted(side.model, _weights(side.name, side.head), ids, PROMOTED)
    rows = [
        {"attended token": visible(where[i]), "promotes": " ".join(visible(token) for token in tokens)}
        for i, tokens in zip(ids, best, strict=True)
    ]
    table(pd.DataFrame(rows))


@st.cache_resource(max_entries=KEPT, show_spinner=False)
def _circuits(name: str, head: Head) -> dict[str, dict[str, float]]:
    return circuits(_weights(name, head))


@st.cache_resource(max_entries=WEIGHTS, show_spinner=False)
def _weights(name: str, head: Head) -> HeadWeights:
    return HeadWeights.of(models.load(name), head)


def _copies(known: Known, head: Head) -> str:
    value, chance = known.scores["copy_score"][head.layer, head.index], known.chance["copy_score"]
    return (
        f"Copy score {value:.3f}: 1 raises what it attends to, −1 lowers it (random weights {chance['random']:.3f}, "
        f"95th percentile {chance['random_95']:.3f})."
    )
