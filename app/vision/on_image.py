"""What is computed of an image: scores of all heads, patterns of a layer, classes. The last few stay in memory, as
arrays: no entry holds a model."""

from __future__ import annotations

from typing import Any

import streamlit as st

import workbench as wb
from app.stoppable import Progress, check_not_stopped
from app.vision.view import View

#: Images whose scores stay in memory.
MAX_SCORES = 8


def head_scores(model_name: str, model: Any, images: wb.Images) -> wb.HeadScores:
    """`workbench.scores_on` of the image; where it is none of the recent ones it is scored with progress and a stop.

    Raises:
        WorkbenchError: the model cannot take the image.
        Notice: the user stopped it.
    """
    place = st.empty()  # also where nothing is shown: what follows keeps its place in the page
    (picture,) = images.pictures
    stored, key = _head_scores(), (model_name, picture.sha256)
    if key not in stored:
        check_not_stopped(place, key, "Score the heads", f"Stopped. The model has {model.n_layers} layers.")
        scores = wb.scores_on(model, images, progress=Progress(place, key))
        place.empty()
        while len(stored) >= MAX_SCORES:
            stored.pop(next(iter(stored)), None)
        stored[key] = scores
    return stored[key]


def attention(view: View) -> wb.ImageAttention:
    """`workbench.attention_on_image` of the open head's layer.

    Raises:
        WorkbenchError: the layer's operator has no matrix.
    """
    (picture,) = view.images.pictures
    return _attention(view.model_name, picture.sha256, picture.name, view.head.layer, view.model, view.images)


def classes(view: View) -> list[tuple[str, float]]:
    """Every class of the model with its probability, the likeliest first.

    Raises:
        WorkbenchError: the model has no classes.
    """
    return _classes(view.model_name, view.images.pictures[0].sha256, view.model, view.images)


# Streamlit leaves arguments that begin with an underscore out of the key.


@st.cache_resource(show_spinner=False)
def _head_scores() -> dict[tuple[str, str], wb.HeadScores]:
    return {}


@st.cache_resource(max_entries=4, show_spinner="Recording the patterns of the layer …")
def _attention(
    model_name: str, sha256: str, name: str, layer: int, _model: Any, _images: wb.Images
) -> wb.ImageAttention:
    return wb.attention_on_image(_model, _images, layer)


@st.cache_resource(max_entries=32, show_spinner="Running the image …")
def _classes(model_name: str, sha256: str, _model: Any, _images: wb.Images) -> list[tuple[str, float]]:
    (classes,) = wb.run(_model, _images, [], unedited=False).top(_model.n_outputs)
    return classes
