"""What heads attend to, over the image: one head beside the image, and the heads of a layer as small pictures."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

import workbench as wb
from app.components.component_files import load_component
from app.components.head_grid import scale_colours
from workbench.core import Head
from workbench.inputs.contact_sheet import png
from workbench.plotting import style

#: Positions of an image whose whole pattern is sent, so that the map follows the pointer; of others one row is.
MOST_POSITIONS = 400


def image_map(
    seen: wb.ImageAttention, head: int, position: int, *, key: str, note: str, on_pick: Callable[[int], None]
) -> None:
    """The image, and what a head attends to from a position.

    Args:
        note: a line below the title.
        on_pick: called with the position that was picked, by a click or the arrow keys, before the page reruns.
    """

    def picked() -> None:
        place = st.session_state[key].picked
        if place is not None:
            on_pick(int(place))

    whole = len(seen.labels) <= MOST_POSITIONS
    load_component("image_map", "image_draw.js")(
        data={
            **_shared(seen, seen.pattern[head] if whole else seen.pattern[head, position]),
            "whole": whole,
            "selected": position,
            "title": f"{seen.title(head, position)}: {seen.units}",
            "note": note,
        },
        key=key,
        on_picked_change=picked,
    )


def image_heads(
    seen: wb.ImageAttention, head: int, position: int, *, key: str, on_pick: Callable[[Head], None]
) -> None:
    """What each head of the layer attends to from a position.

    Args:
        head: the open one.
        on_pick: called with the head that was picked, before the page reruns.
    """

    def picked() -> None:
        place = st.session_state[key].picked
        if place is not None:
            on_pick(Head(seen.layer, int(place)))

    load_component("image_heads", "image_draw.js")(
        data={
            **_shared(seen, seen.pattern[:, position]),
            "heads": [str(Head(seen.layer, i)) for i in range(len(seen.pattern))],
            "selected": head,
            "title": f"Heads of layer {seen.layer}, from {seen.labels[position]}",
            "note": "Each on a scale of its own, to its largest weight on a patch.",
        },
        key=key,
        on_picked_change=picked,
    )


def _shared(seen: wb.ImageAttention, rows: np.ndarray) -> dict[str, Any]:
    signed = bool((seen.pattern < 0).any())
    pixels = seen.pixels
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return {
        "image": f"data:image/png;base64,{base64.b64encode(png(picture)).decode()}",
        "rows": base64.b64encode(np.ascontiguousarray(rows, "<f4").tobytes()).decode(),
        "grid": list(seen.grid),
        "added": list(seen.added),
        "labels": list(seen.labels),
        "signed": signed,
        "colours": scale_colours(signed),
        "blank": style.BLANK,
    }
