"""A sample over the sampling steps, as small pictures of which one is picked."""

from __future__ import annotations

import base64
from collections.abc import Callable

import numpy as np
import streamlit as st
from jaxtyping import UInt8
from PIL import Image

import workbench as wb
from app.components.component_files import load_component
from workbench.inputs.contact_sheet import png
from workbench.plotting.trajectory import VIEWS

#: Pixels of a picture's longer side on the page: of few steps, and of more than `FEW`.
SIDE, SMALL_SIDE, FEW = 72, 48, 12
#: Larger pictures are sent reduced to so many pixels a side.
SENT = 144


def step_strip(
    over_steps: wb.Trajectory,
    step: int,
    *,
    title: str,
    note: str,
    key: str,
    on_pick: Callable[[int], None],
    compared: wb.Trajectory | None = None,
) -> None:
    """The first sample of a trajectory: in each step as it is and as it would be, and at the end.

    Args:
        step: the open one.
        note: a line below the title; empty for none.
        on_pick: called with the step that was picked, by a click or the arrow keys, before the page reruns.
        compared: the same without edits: each step then says how far the samples are from each other.
    """

    def picked() -> None:
        place = st.session_state[key].picked
        if place is not None:
            on_pick(int(place))

    n = len(over_steps.times)
    distances = None if compared is None else compared.distances(over_steps)[0]
    columns = []
    for state in range(n + 1):
        pictures = [over_steps.pixels(0, state, shows) for shows in VIEWS if state < n or shows == "latent"]
        name = "Finished" if state == n else f"Step {state}, time {over_steps.times[state]:g}"
        text = name if distances is None else f"{name}: {distances[state]:.3g} from the sample without edits"
        label = "end" if state == n else str(state)
        columns.append({"images": [_url(pixels) for pixels in pictures], "label": label, "text": text})
    height, width = over_steps.pixels(0, n, "latent").shape[:2]
    side = SIDE if n <= FEW else SMALL_SIDE
    scale = side / min(height, width) if over_steps.latents.ndim == 6 else side / max(height, width)
    load_component("step_strip")(
        data={
            "columns": columns,
            "selected": step,
            "steps": n,
            "size": [round(width * scale), round(height * scale)],
            "title": title,
            "note": note,
        },
        key=key,
        on_picked_change=picked,
    )


def _url(pixels: UInt8[np.ndarray, "height width channel"]) -> str:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if min(image.size) > SENT:
        image.thumbnail((SENT * image.width // min(image.size), SENT * image.height // min(image.size)))
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"
