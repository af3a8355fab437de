"""The sample over the steps: as it is before each step, and the image that the step's prediction points at."""

import numpy as np
import streamlit as st

from app.components.step_strip import step_strip
from app.diffusion.computed import over_steps
from app.diffusion.sampled import class_name
from app.diffusion.step import select_step
from app.diffusion.trajectory_figure import TrajectoryFigure
from app.diffusion.view import View
from app.downloadable import download_buttons
from app.messages import escape_markdown
from app.part import ABOVE, Part
from workbench.inputs.contact_sheet import enlarged
from workbench.inputs.picture import Picture

#: Pixels of the other class's sample.
PICTURE = 72
NOTE = "Above: the sample before each step. Below: the image that the step’s prediction points at."


def render(view: View) -> None:
    """The part."""
    name = view.over_steps.names[0]
    title = f"{name[:1].upper()}{name[1:]}, over the steps"
    strip, beside = st.columns([8, 1], gap="small")
    with strip:
        step_strip(view.over_steps, view.step, title=title, note=NOTE, key="sample-strip", on_pick=select_step)
    with beside:
        _other(view)
    if view.over_steps.note:
        st.caption(view.over_steps.note)
    download_buttons(TrajectoryFigure(view.over_steps, view.source), "sample-strip", "sample-over-steps")


def _other(view: View) -> None:
    """The finished sample that patches come from."""
    settings = view.settings.of_other
    if settings == view.settings:
        return
    pixels = over_steps(view.model_name, view.model, settings).pixels(0, settings.steps, "latent")
    image = Picture.of(np.ascontiguousarray(pixels), class_name(settings.label)).image()
    st.image(enlarged(image, PICTURE), width=PICTURE)
    name = class_name(settings.label)
    st.caption(escape_markdown(f"{name[:1].upper()}{name[1:]}, from the same noise: patches come from it."))


HELP = (
    "**The sample over the steps**: a click, Enter or the arrow keys open a step. *Above* is the sample as it is "
    "before the step; *below* the image as it would be: where the step’s prediction, after guidance, points. Beside it "
    "is the finished sample of the other class, from the same noise."
)
part = Part("samples", 10, ABOVE, render, ("diffusion",), HELP)
