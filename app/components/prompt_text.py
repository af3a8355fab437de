"""The prompt as people write it, with tokens to click on, shaded by a weight of each position."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import streamlit as st
from jaxtyping import Bool, Float

from app.components.component_files import load_component
from workbench.io.written_text import Piece
from workbench.plotting import shaded_text
from workbench.plotting.colour_scale import ColourScale


def prompt_text(
    pieces: Sequence[Piece],
    labels: Sequence[str],
    weights: Float[np.ndarray, " pos"],
    masked: Bool[np.ndarray, " pos"],
    *,
    question: str,
    verb: str,
    asking: int,
    pair: int | None,
    scale: ColourScale,
    what: str,
    key: str,
    on_ask: Callable[[int, bool], None] | None,
) -> None:
    """The text.

    Args:
        pieces: of the prompt's text.
        labels: of the positions.
        weights: one per position, NaN where there is none.
        masked: the positions that the mask hides, which is said in place of their weight.
        question: what is asked about the position `asking`, which gets a frame.
        verb: what stands before the line about the position `pair`, which gets a dotted frame; None for no pair.
        what: what a weight is.
        on_ask: called with a position, and whether it is the pair's other one, before the page reruns; None where
            nothing can be asked.
    """

    def clicked() -> None:
        place = st.session_state[key].asked
        if place is not None and on_ask is not None:
            on_ask(int(place[0]), bool(place[1]))

    module, finite = shaded_text, np.isfinite(weights)
    shares = np.where(finite, scale.shares(weights), 0).round(4)
    load_component("prompt_text")(
        data={
            "pieces": [[piece.text, list(piece.positions), module.direction(piece.text)] for piece in pieces],
            "nothing": [piece.text for piece in pieces if not module.is_visible(piece.text)],
            "labels": list(labels),
            "weights": [round(float(w), 6) if ok else None for w, ok in zip(weights, finite, strict=True)],
            "shares": shares.tolist(),
            "masked": np.flatnonzero(masked).tolist(),
            "why": module.MASKED,
            "question": question,
            "verb": verb,
            "asking": asking,
            "pair": pair,
            "asks": on_ask is not None,
            "legend": module.legend(scale, what, pair is not None),
            "shade": [module.RED, module.GREEN, module.BLUE, module.OPACITY],
            "mark": module.ASKING,
            "begin": module.BEGIN,
        },
        key=key,
        on_asked_change=clicked,
    )
