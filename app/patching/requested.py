"""What another page asked of the page Patching when it opened it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app import open_patching, url_widgets
from app.open_patching import Ablation, PairsToPatch
from app.patching import circuit_builder, manual_edits, pairs_input
from app.work.stored_pairs import StoredPairs
from workbench.inputs.rows import Pair


def do_request() -> bool:
    """Do it, before the page's widgets are made; whether the effect on the next token was asked for.

    Raises:
        BadInput: pairs that are too large.
    """
    request = open_patching.take_request()
    if isinstance(request, Ablation):
        circuit_builder.add_heads([request.head])
        _set({manual_edits.KIND: "zero", manual_edits.AT: manual_edits.EVERYWHERE})
        _set({manual_edits.ON: request.task_prompt or manual_edits.PROMPT})
        if request.task_prompt:
            _set({manual_edits.RUN: manual_edits.CLEAN, pairs_input.SOURCE: pairs_input.TASK})
    elif isinstance(request, PairsToPatch):
        rows = tuple(_row(pair) for pair in request.pairs)
        pairs_input.open_pairs(StoredPairs(rows, ("",) * len(rows), edited=True))
        _set({pairs_input.SOURCE: pairs_input.OWN, manual_edits.ON: "1"})
        _set({manual_edits.KIND: "patch", manual_edits.RUN: manual_edits.CORRUPT})
    return isinstance(request, Ablation)


def _row(pair: Pair) -> dict[str, Any]:
    return {"clean": pair.clean, "corrupt": pair.corrupt, "answer": list(pair.answer), "wrong": list(pair.wrong)}


def _set(values: Mapping[str, str]) -> None:
    for key, value in values.items():
        url_widgets.set_value(key, value)
