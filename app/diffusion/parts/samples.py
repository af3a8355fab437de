"""The sample over the steps: as it is before each step, and the image that the step's prediction points at."""

import streamlit as st

from app.components.step_strip import step_strip
from app.diffusion.step import select_step
from app.diffusion.trajectory_figure import TrajectoryFigure
from app.diffusion.view import View
from app.downloadable import download_buttons
from app.part import ABOVE, Part

NOTE = "Above: the sample before each step. Below: the image that the step’s prediction points at."


def render(view: View) -> None:
    """The part."""
    name = view.over_steps.names[0]
    title = f"{name[:1].upper()}{name[1:]}, over the steps"
    step_strip(view.over_steps, view.step, title=title, note=NOTE, key="sample-strip", on_pick=select_step)
    if view.over_steps.note:
        st.caption(view.over_steps.note)
    download_buttons(TrajectoryFigure(view.over_steps, view.source), "sample-strip", "sample-over-steps")


HELP = (
    "**The sample over the steps**: a click, Enter or the arrow keys open a step. *Above* is the sample as it is "
    "before the step; *below* the image as it would be: where the step’s prediction, after guidance, points."
)
part = Part("samples", 10, ABOVE, render, ("diffusion",), HELP)
