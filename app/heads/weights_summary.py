"""A head's OV and QK circuits from its weights alone: their sizes, the copy score, composition with earlier heads, and
the tokens that the OV circuit promotes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import streamlit as st
import torch
from jaxtyping import Float

from app import models
from app.heads import model_scores
from app.heads.model_scores import ModelScores, strongest_partners
from app.heads.prompt_record import PromptRecord
from app.heads.selection import Selection
from app.heads.weights import ov_qk_summary, promoted_tokens
from app.small_table import SmallTable, show_table, show_tables
from workbench.core import Head
from workbench.head_scores.weights import HeadWeights
from workbench.io.tables import printed
from workbench.models.reads_writes import ReadsWrites
from workbench.plotting.attention_view import DESTINATION, numbered, visible

#: Heads whose summary stays in memory, and whose weights do.
MAX_HEADS, MAX_HEAD_WEIGHTS = 4_096, 4
#: Earlier heads that are listed per kind of composition; attended tokens, and promoted tokens of each.
PARTNERS, TOKENS, PROMOTED = 3, 5, 5
#: Sizes of the circuits of heads.
_SUMMARIES: dict[tuple[str, Head], dict[str, dict[str, float]]] = {}
#: Of prompts in memory: the promoted tokens of heads, for the tokens that each attends to.
_PROMOTED: WeakKeyDictionary[PromptRecord, dict[tuple[Head, tuple[int, ...]], list[list[str]]]] = WeakKeyDictionary()


def show_summary(selection: Selection, stored_only: bool) -> None:
    """The summary.

    Args:
        stored_only: the page already shows the progress of the background scores.
    """
    background = model_scores.background(selection.model_name)
    scores = background.stored()
    note = (
        "σ₁² / Σσ²: the largest squared singular value as a share of the sum of all. Near 1 the circuit acts on one "
        "direction alone; the smallest possible is 1 / rank."
    )
    show_tables(SmallTable(size_table(selection, scores), "OV and QK circuits (weights alone)", note))
    if scores is None and not stored_only:
        scores = background.result()
    if scores is not None:
        row = selection.head.layer * selection.model.n_heads + selection.head.index
        st.caption(_copy_score_text(scores, selection.head))
        show_table(composition_table(scores, row))


def size_table(selection: Selection, scores: ModelScores | None) -> pd.DataFrame:
    """Norm, effective rank and the largest singular value's share of both circuits, with the norm and rank of random
    weights where the model's scores are computed."""
    circuits = _ov_qk_summary(selection.model_name, selection.head)
    quantities = {
        "norm": "norm (Frobenius)",
        "rank": f"effective rank (of {selection.model.d_head})",
        "first": "σ₁² / Σσ²",
    }
    rows = []
    for quantity, label in quantities.items():
        rows.append({"": label} | {name: circuit[quantity] for name, circuit in circuits.items()})
        if scores is not None and quantity != "first":
            levels = {name: scores.chance[f"{name.lower()}_{quantity}"]["random"] for name in circuits}
            rows.append({"": "… with random weights"} | levels)
    return pd.DataFrame(rows)


def composition_table(model_scores: ModelScores, row: int) -> pd.DataFrame:
    """The earlier heads with the strongest Q, K and V composition, and the level of unrelated heads."""
    rows = []
    for kind in "qkv":
        best = strongest_partners(model_scores.scores, f"{kind}_composition", row, PARTNERS)
        heads = ", ".join(f"{head} ({value:.3f})" for head, value in best)
        rows.append({"composition": kind.upper(), "strongest": heads})
    level = model_scores.scores.info["unrelated_composition"]
    return pd.DataFrame(rows).assign(unrelated=level)


def show_ov_tokens(selection: Selection, dest: int) -> None:
    """For the tokens that a position attends to most: the tokens that the head's OV circuit promotes."""
    record, head = selection.record, selection.head
    row = record.pattern(head)[dest]
    if not np.isfinite(row).any():
        st.caption(f"Head {head} has no pattern, so no token is attended to most.")
        return
    name = f"{numbered(record.tokens)[dest]} attends to"
    ids = _most_attended(record, row)
    known = _PROMOTED.setdefault(record, {})
    if (head, ids) not in known:
        weights = _weights(selection.model_name, head)
        (known[head, ids],) = promoted_tokens(selection.model, weights, [ids], PROMOTED)
    texts = selection.model.to_str_tokens(torch.tensor(ids))
    rows = [
        {name: visible(text), "promotes": " ".join(visible(token) for token in tokens)}
        for text, tokens in zip(texts, known[head, ids], strict=True)
    ]
    note = (
        "The tokens that the head promotes through W_E, W_V, W_O and W_U when it attends to a token. Positions, and "
        "what earlier layers add to a token, are left out."
    )
    show_tables(SmallTable(pd.DataFrame(rows), "OV circuit per token (weights alone)", note))


def other_heads(selection: Selection, dest: int) -> Iterator[None]:
    """Compute what the page shows of every other head, a layer a step."""
    record, model, name = selection.record, selection.model, selection.model_name
    promoted, through = _PROMOTED.setdefault(record, {}), ReadsWrites(model)  # that model: none is loaded by its name
    for layer, rows in enumerate(record.attention_at(dest, DESTINATION)):
        heads = [Head(layer, i) for i in range(model.n_heads)]
        ids = [_most_attended(record, row) if np.isfinite(row).any() else () for row in rows]
        keys = list(zip(heads, ids, strict=True))
        if any((name, head) not in _SUMMARIES for head in heads) or any(key not in promoted for key in keys):
            weights = HeadWeights.of(model, layer, through)
            _keep(name, heads, weights)
            yield
            if any(ids):
                promoted.update(zip(keys, promoted_tokens(model, weights, ids, PROMOTED), strict=True))
            yield


def _most_attended(record: PromptRecord, row: Float[np.ndarray, "src"]) -> tuple[int, ...]:
    """The different tokens among the positions with most of a destination's attention, the most attended first."""
    positions = np.array([i for i in np.argsort(-row, kind="stable")[:TOKENS] if row[i] > 0])  # others may be masked
    return tuple(dict.fromkeys(record.ids[positions].tolist()))


def _ov_qk_summary(model_name: str, head: Head) -> dict[str, dict[str, float]]:
    if (model_name, head) not in _SUMMARIES:
        _keep(model_name, [head], _weights(model_name, head))
    return _SUMMARIES[model_name, head]


def _keep(model_name: str, heads: Sequence[Head], weights: HeadWeights) -> None:
    if len(_SUMMARIES) > MAX_HEADS:
        _SUMMARIES.clear()
    _SUMMARIES.update(zip([(model_name, head) for head in heads], ov_qk_summary(weights), strict=True))


@st.cache_resource(max_entries=MAX_HEAD_WEIGHTS, show_spinner=False)
def _weights(model_name: str, head: Head) -> HeadWeights:
    return HeadWeights.of(models.load(model_name), head, _reads_writes(model_name))


@models.cleared_on_release
@st.cache_resource(max_entries=models.MAX_MODELS, show_spinner=False)
def _reads_writes(model_name: str) -> ReadsWrites:
    return ReadsWrites(models.load(model_name))


def _copy_score_text(model_scores: ModelScores, head: Head) -> str:
    value, chance = model_scores.scores["copy_score"][head.layer, head.index], model_scores.chance["copy_score"]
    if not np.isfinite(value):
        reasons = model_scores.scores.without_value("copy_score")
        return f"No copy score: {next(reason for reason, heads in reasons.items() if head in heads)}"
    value, mean, highest = (printed(x, ".3f") for x in (value, chance["random"], chance["random_95"]))
    return (
        f"Copy score {value}. 1: the head raises the logits of the tokens it attends to, −1: it lowers them. "
        f"Random weights: mean {mean}, 95th percentile {highest}."
    )
