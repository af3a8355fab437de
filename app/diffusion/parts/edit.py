"""The set of heads edited in some steps, and the sample made again from the same noise beside the original."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

import workbench as wb
from app.classes_chart import classes_chart
from app.components.step_strip import step_strip
from app.diffusion.computed import outcome, over_steps
from app.diffusion.edits import edit_widgets
from app.diffusion.script import edit_script
from app.diffusion.step import select_step
from app.diffusion.trajectory_figure import TrajectoryFigure
from app.diffusion.view import View, with_details
from app.downloadable import download_button, download_buttons, show_chart
from app.messages import show_error
from app.part import BELOW, Part
from app.patching import circuit_builder
from app.small_table import show_table
from workbench.core import Edit
from workbench.errors import UsageError
from workbench.io.tables import printed
from workbench.patching.scores_table import scores_table
from workbench.plotting.source import Source

NOTE = "The same noise and class. Above: the sample before each step. Below: what the step’s prediction points at."


def render(view: View) -> None:
    """The part."""
    st.subheader("Edit and sample again", anchor=False)
    set_column, edit_column = st.columns([2, 3], gap="medium")
    with set_column:
        heads = list(circuit_builder.set_widgets(view.model, view.head, ()))
    with edit_column:
        edits, description = edit_widgets(view.model, heads)
        if not heads:
            st.info("No head is in the set yet. Add the open head, or add heads by name.")
    if not heads:
        return
    if "patch" in {edit.kind for edit in edits}:
        try:
            view.settings.check_other()
        except UsageError as error:
            show_error(error)
            return
    edited = over_steps(view.model_name, view.model, view.settings, edits)
    source = replace(view.source, edited=description)
    if "patch" in {edit.kind for edit in edits}:
        source = with_details(source, **{"other class": view.settings.other})
    _strips(view, edited, description, source)
    left, right = st.columns(2, gap="medium")
    with left:
        _metrics(view, edits, source)
    with right:
        _classes(view, edits, source)
    with st.expander("Show as code", icon=":material/code:"):
        st.code(edit_script(view.model_name, view.settings, view.readout, edits), language="python")


def _strips(view: View, edited: wb.Trajectory, description: str, source: Source) -> None:
    plain, step = view.over_steps, view.step
    step_strip(plain, step, title="Without edits", note=NOTE, key="plain-strip", on_pick=select_step)
    title = f"With edits ({description})"
    step_strip(edited, step, title=title, note="", key="edited-strip", on_pick=select_step, compared=plain)
    distances = plain.distances(edited)[0]
    now, end = printed(float(distances[step])), printed(float(distances[-1]))
    st.caption(
        f"Root mean square difference of the two samples: {now} before step {step}, {end} at the end, where pixels are "
        "from −1 to 1."
    )
    download_buttons(TrajectoryFigure(plain, source, edited), "edited-strip", "diffusion-edited")


def _metrics(view: View, edits: tuple[Edit, ...], source: Source) -> None:
    """Metrics of the finished sample before and after."""
    table = scores_table(outcome(view, edits))
    show_table(table)
    download_button("CSV", source.csv(table), "diffusion-metrics.csv", "text/csv", key="edited-metrics-csv")


def _classes(view: View, edits: tuple[Edit, ...], source: Source) -> None:
    """The classes of the finished sample before and after, where a classifier reads it."""
    if not view.readout:
        st.caption("For classes before and after, let metrics read a classifier, above.")
        return
    after = outcome(view, edits, view.readout)
    source = with_details(source, classifier=view.readout)
    chart = classes_chart(after, f"Classes by {view.readout}", "Before and after the edits", edits, source)
    show_chart(chart, "edited-classes", "diffusion-classes")


HELP = (
    "**Edit and sample again**: all heads of the set are edited at once, in the steps from the first to the last and "
    "in the passes of guidance that you choose, and the sample is made again from the same noise. The table has "
    "metrics of the finished sample. **Show as code**: Python that computes the same."
)
part = Part("edit", 10, BELOW, render, ("diffusion",), HELP)
