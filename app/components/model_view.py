"""Small multiples: the patterns of many heads, drawn as far as they are visible, with click, hover and arrow keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any

import numpy as np
import streamlit as st
from streamlit.components.v2 import component

import workbench as wb
from app.components.component_files import FOLDER, load_component
from app.components.head_grid import scale_colours
from workbench.core import Head
from workbench.plotting.colour_scale import ColourScale

#: Bytes of the hash that precedes the maps.
DIGEST = 16


@dataclass(frozen=True, eq=False)
class PatternBuffer:
    """All maps of a prompt as the page receives them: once, whatever is selected, ordered or clicked afterwards.

    Attributes:
        view: the maps of all heads.
        data: their hash, and a byte for each entry: ``round(255 · √weight)``. Colours have 256 levels, finer where
            weights are small; downloads have the weights themselves.
    """

    view: wb.ModelView
    data: bytes

    @property
    def id(self) -> str:
        """The hash, as hexadecimal digits."""
        return self.data[:DIGEST].hex()


def pattern_buffer(view: wb.ModelView) -> PatternBuffer:
    """The maps of a view as bytes."""
    levels = np.rint(255 * np.sqrt(view.maps.clip(0, 1))).astype(np.uint8).tobytes()
    return PatternBuffer(view, blake2b(levels, digest_size=DIGEST).digest() + levels)


def model_view(
    buffer: PatternBuffer,
    heads: Sequence[Head],
    values: Sequence[str],
    texts: Sequence[str],
    *,
    by_layer: bool,
    colours: str,
    score: str,
    title: str,
    note: str,
    selected: Head,
    key: str,
    on_pick: Callable[[Head], None],
) -> None:
    """The maps of some heads of a buffer.

    Args:
        heads: which, in this order.
        values: of the score, shown below the maps unless `by_layer`. texts: the same with units, of the head below the
            pointer.
        by_layer: begin a new row with each layer.
        colours: one of `workbench.plotting.colour_scale.COLOURS`.
        note: a line below the title.
        on_pick: called with the head that was opened, by a click or the Enter key, before the page reruns.
    """

    def picked() -> None:
        place = st.session_state[key].picked
        if place is not None:
            on_pick(Head(int(place[0]), int(place[1])))

    places = {head: i for i, head in enumerate(buffer.view.heads)}
    layers = [head.layer for head in heads]
    load_component("model_view")(
        data={
            "id": buffer.id,
            "side": buffer.view.maps.shape[1],
            "heads": [[places[head], head.layer, head.index] for head in heads],
            "values": list(values),
            "texts": list(texts),
            "by_layer": by_layer,
            "per_layer": max(layers.count(layer) for layer in set(layers)),
            "scale": colours,
            "ticks": [[share, text] for _, share, text in ColourScale(colours).ticks()],
            "score": score,
            "title": title,
            "note": note,
            "colours": scale_colours(False),
            "selected": [selected.layer, selected.index],
        },
        key=key,
        on_picked_change=picked,
    )
    _store()(data=buffer.data, key=f"{key}-patterns")


@cache
def _store() -> Any:
    return component("workbench_pattern_store", js=(FOLDER / "pattern_store.js").read_text(encoding="utf-8"))
