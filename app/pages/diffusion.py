"""Diffusion: a sample over the sampling steps, what heads attend to in each, and what changes when they are edited."""

from __future__ import annotations

import streamlit as st

from app import models, part, sidebar
from app.diffusion.computed import over_steps
from app.diffusion.readouts import readout_widget
from app.diffusion.sampled import sampled_model, settings_widgets
from app.diffusion.step import step_widget
from app.diffusion.view import PARTS, View
from app.fragment import rerun_alone
from app.page import Page
from workbench.core import Head
from workbench.patching.trajectory import sampled_to_the_end

HELP = (
    "A diffusion model runs all its layers in every sampling step. **Class, other class, seed**: of the sample that is "
    "shown, and of the run that patches come from. The same noise gives the same sample."
)


@rerun_alone("Diffusion")
def render() -> None:
    """The page."""
    name = sidebar.model_name()
    base = sampled_to_the_end(models.load(name))
    settings = settings_widgets(base)
    step_column, readout_column, head_column = st.columns([6, 4, 2], vertical_alignment="top")
    with step_column:
        step = step_widget(settings.steps)
    with readout_column:
        readout = readout_widget(base)
    with head_column:
        sidebar.head_widget()
    sidebar.suggest_head(lambda: Head(0, 0))
    model = sampled_model(name, base, settings)
    head = sidebar.selected_head(model)
    view = View(name, base, model, settings, head, step, over_steps(name, model, settings), readout)
    part.render_all(PARTS, view, [6, 5])


page = Page(
    "diffusion",
    "Diffusion",
    "grain",
    4,
    render,
    ("diffusion",),
    (sidebar.MODEL, sidebar.OPERATORS),
    HELP,
    PARTS,
    "Choose a class, and click a step of the sample to open it; then click a patch to see where a head looks from it.",
)
