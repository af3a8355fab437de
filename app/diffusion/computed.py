"""What is computed of a sample: its trajectory, with and without edits, and patterns of a layer. The last few stay in
memory, as arrays: no entry holds a model."""

from __future__ import annotations

from typing import Any

import streamlit as st

import workbench as wb
from app.diffusion.sampled import Settings, sampled_model
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


def judged(view: View) -> Any:
    """The model, its samples read by the page's classifier where there is one."""
    return sampled_model(view.model_name, view.base, view.settings, view.readout) if view.readout else view.model


def outcome(view: View, edits: tuple[Edit, ...], readout: str = "") -> wb.Outcome:
    """`workbench.run` of the sample under edits, reading its pixels, or the classes that a classifier gives it.

    Raises:
        WorkbenchError: edits that cannot be made.
    """
    model = judged(view) if readout else view.model
    return _outcome(view.model_name, view.settings, edits, readout, model)


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


@st.cache_resource(max_entries=32, show_spinner="Sampling …")
def _outcome(model_name: str, settings: Settings, edits: tuple[Edit, ...], readout: str, _model: Any) -> wb.Outcome:
    return wb.run(_model, settings.latents(), edits)
