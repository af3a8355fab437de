"""What is computed of a sample: its trajectory, with and without edits, and patterns of a layer. The last few stay in
memory, as arrays: no entry holds a model."""

from __future__ import annotations

from typing import Any

import streamlit as st

import workbench as wb
from app.diffusion.sampled import Settings
from app.diffusion.view import View
from workbench.core import Edit


def over_steps(model_name: str, model: Any, settings: Settings, edits: tuple[Edit, ...] = ()) -> wb.Trajectory:
    """`workbench.trajectory` of the sample.

    Raises:
        WorkbenchError: edits that cannot be made.
    """
    return _over_steps(model_name, settings, edits, model)


def attention(view: View, branch: str, shows: str) -> wb.ImageAttention:
    """`workbench.attention_on_sample` of the open head's layer, in the open step.

    Raises:
        WorkbenchError: the layer's operator has no matrix.
    """
    layer = view.head.layer
    return _attention(view.model_name, view.settings, layer, view.step, branch, shows, view.model, view.over_steps)


# Streamlit leaves arguments that begin with an underscore out of the key.


@st.cache_resource(max_entries=16, show_spinner="Sampling …")
def _over_steps(model_name: str, settings: Settings, edits: tuple[Edit, ...], _model: Any) -> wb.Trajectory:
    return wb.trajectory(_model, settings.latents(), edits)


@st.cache_resource(max_entries=8, show_spinner="Recording the patterns of the layer …")
def _attention(
    model_name: str,
    settings: Settings,
    layer: int,
    step: int,
    branch: str,
    shows: str,
    _model: Any,
    _over_steps: wb.Trajectory,
) -> wb.ImageAttention:
    latents = settings.latents()
    return wb.attention_on_sample(_model, latents, layer, step, branch=branch, shows=shows, over_steps=_over_steps)
