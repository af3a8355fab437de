"""What the open head attends to from a patch in the open step, over the sample."""

import streamlit as st

from app import sidebar, url_widgets
from app.components.image_map import image_heads
from app.diffusion.computed import attention
from app.diffusion.view import View, with_details
from app.part import RIGHT, Part
from app.vision.position import selected_position
from app.vision.show_map import show_map
from workbench.core import PASSES

PASS, SHOWS = "sample-pass", "sample-picture"
PICTURES = {"estimate": "as it would be", "latent": "as it is"}
PASS_HELP = "Guidance runs the model twice in each step: with the class, and without it."
PICTURE_HELP = "The picture under the map: where the step’s prediction points, or the sample before the step."


def render(view: View) -> None:
    """The part."""
    first, second = st.columns(2)
    branch = "label"
    with first:
        shows = url_widgets.select(
            "Picture", list(PICTURES), SHOWS, format_func=PICTURES.__getitem__, help=PICTURE_HELP
        )
    with second:
        if view.model.branches > 1:
            branch = url_widgets.select("Pass", list(PASSES), PASS, format_func=PASSES.__getitem__, help=PASS_HELP)
        else:
            url_widgets.hidden_select(list(PASSES), PASS)
    seen = attention(view, branch, shows)
    source = with_details(view.source_of_step, **{"pass": PASSES[branch]})
    show_map(seen, view.head.index, source, "sample-map", "diffusion-attention")
    at = seen.index(selected_position(seen.labels))
    image_heads(seen, view.head.index, at, key="sample-heads", on_pick=sidebar.select_head)


HELP = (
    "The **map** shows the row of the open head’s pattern for the selected patch, in the open step and in one of "
    "guidance’s two passes. Arrow keys move from patch to patch. Below are all heads of the layer: a click, or Enter, "
    "opens one. The frames of a video lie side by side."
)
part = Part("map", 10, RIGHT, render, ("diffusion",), HELP)
