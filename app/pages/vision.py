"""Vision: all heads of a vision model on one image, and what one head attends to from each patch."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app import models, part, sidebar
from app.fragment import rerun_alone
from app.messages import show_errors
from app.page import Page
from app.vision.image_input import select_image
from app.vision.on_image import head_scores
from app.vision.scores import image_score, score_widget
from app.vision.view import PARTS, View
from app.work.images import read_image
from workbench.core import Head
from workbench.inputs.pixels import check_vision

HELP = (
    "**Image from**: held-out images of the sets that the workbench trains its models on, two photos of scikit-learn, "
    "or a file of your own, which stays on this machine. The model's own image processor resizes it; the map shows the "
    "result."
)


@rerun_alone("Vision")
def render() -> None:
    """The page."""
    name = sidebar.model_name()
    model = check_vision(models.load(name))
    image_column, score_column, head_column = st.columns([6, 4, 2], vertical_alignment="top")
    with score_column:
        score_name = score_widget()
    with head_column:
        sidebar.head_widget()
    images = scores = selected = None
    with image_column, show_errors():  # the other widgets are still there, and their values in the URL
        selected = select_image(model)
        images = read_image(selected)
        scores = head_scores(name, model, images)
    if images is None or scores is None or selected is None:
        return
    sidebar.suggest_head(lambda: _most_focused(scores["entropy"]))
    head = sidebar.selected_head(model)
    view = View(name, model, images, selected, head, score_name, image_score(scores, score_name))
    part.render_all(PARTS, view, [5, 6])


def _most_focused(entropy: np.ndarray) -> Head | None:
    """The head with the least entropy, where any has one."""
    if not np.isfinite(entropy).any():
        return None
    layer, index = np.unravel_index(np.nanargmin(entropy), entropy.shape)
    return Head(int(layer), int(index))


page = Page(
    "vision",
    "Vision",
    "image",
    3,
    render,
    ("vision",),
    (sidebar.MODEL, sidebar.OPERATORS),
    HELP,
    PARTS,
    "Choose an image and a score, and click a cell of the grid to open that head; then point at a patch.",
)
