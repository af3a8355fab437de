"""Patch and ablate: the corrupt image beside the open one, edits of heads with the outputs before and after, and a
sweep over all heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

import workbench as wb
from app import sidebar, url_widgets
from app.downloadable import show_chart
from app.messages import escape_markdown, show_errors
from app.number_table import in_print
from app.part import BELOW, Part
from app.patching import circuit_builder, sweep_view
from app.patching.save_run import save_run_button
from app.small_table import show_table
from app.vision import edits, sweep_controls, sweep_images
from app.vision.edits import Editing
from app.vision.on_image import attention
from app.vision.pair_input import MAX_SEED, SEED, corrupt_widgets, description
from app.vision.position import selected_position
from app.vision.script import python_script
from app.vision.view import View
from app.work.images import read_pair
from workbench.core import Head
from workbench.example_names import task_of
from workbench.inputs.contact_sheet import enlarged

HELP = (
    "**Patch and ablate**: the corrupt image stands beside the open one before anything runs. The edit is made in the "
    "open head, or in all heads of the set together, at every position or at the selected one. **Before and after**: "
    "the classes’ probabilities without and with it; of a model without classes, how alike its feature is to those of "
    "both images. **Sweep**: the same edit in one head (or position, or layer) at a time, measured by the metric, on "
    "the open image or on several. It runs in the background, and stops where you stop it. **Save as a run**: for the "
    "pages Runs and Circuits."
)
#: Heads that one click adds from a sweep, and cells of the table.
STRONGEST, ROWS = 5, 8
#: What is said of them.
OF_ONE = "The largest effects; with one image no p-value says which may be by chance."
OF_SEVERAL = "The largest effects, whatever their p."
#: Pixels of a picture.
PICTURE = 160


def render(view: View) -> None:
    """The part."""
    st.subheader("Patch and ablate", anchor=False)
    left, right = st.columns([5, 6], gap="medium")
    position = selected_position(attention(view).labels)
    images: dict[str, Any] | None = None
    with left:
        kind = edits.kind_widget()
        with show_errors():
            images = _pair_widgets(view, kind, position)
        place = edits.where_widget(position)
    heads = circuit_builder.current_heads(view.model)
    with right:
        which = edits.which_widget(view.head, list(heads))
        editing = Editing(which, kind, place)
        with show_errors():
            if images is not None:
                _before_and_after(view, images, editing)
    st.subheader("Sweep", anchor=False)
    left, right = st.columns([5, 6], gap="medium")
    sweep = None
    with left, show_errors():
        arguments = sweep_controls.sweep_widgets(view.model, editing)
        if images is not None:
            several = sweep_images.select(images)
            name = _show_sweep_images(view, images, several)
            sweep = sweep_controls.sweep_result(view.model, view.model_name, several, name, arguments)
            _show_sweep(view, sweep, heads)
            _code(view, images, editing, several, arguments)
    with right:
        strongest = sweep.top(STRONGEST) if sweep is not None and "head" in sweep.axes else []
        is_one = sweep is None or sweep.n == 1
        circuit_builder.set_widgets(view.model, view.head, strongest, OF_ONE if is_one else OF_SEVERAL)
        if sweep is not None:
            table = sweep_view.strongest_table(sweep, ROWS).dropna(axis="columns", how="all")
            table = table.drop(columns="p", errors="ignore") if is_one else table
            st.dataframe(in_print(table), hide_index=True, height="content")
            save_run_button(sweep, heads, view.model_name, task_of(sweep.info))
        with st.expander("Circuit", icon=":material/account_tree:"):
            circuit_builder.circuit_widgets(view.model, view.head, view.model_name, view.images.pictures[0].name)


def _pair_widgets(view: View, kind: str, position: str) -> dict[str, Any]:
    """The images of the edit, as `app.work.images.read_pair` takes them: the pair, displayed, or the open one alone."""
    if edits.KINDS[kind]["edit"] != "patch":
        url_widgets.hidden_number(0, MAX_SEED, SEED)
        return {"clean": view.selected}
    corrupt = corrupt_widgets(view, position)
    images = {"clean": view.selected, "corrupt": corrupt}
    pair = read_pair(images, view.model)
    assert isinstance(pair, wb.ImagePairs)
    clean, other = pair.clean.pictures[0], pair.corrupt.pictures[0]
    with st.container(horizontal=True):
        for side, picture in (("clean", clean), ("corrupt", other)):
            large = enlarged(picture.image(), PICTURE)
            st.image(large, caption=escape_markdown(f"{side}: {picture.name}"), width=PICTURE)
    if "corruption" in corrupt:
        st.caption(escape_markdown(f"The corrupt image is made by {description(corrupt)}."))
    return images


def _before_and_after(view: View, images: Mapping[str, Any], editing: Editing) -> None:
    if not editing.heads:
        st.info("No head is in the set. Add heads below, or edit the open head.")
        return
    source = edits.source(view, images, editing)
    st.caption(escape_markdown(f"{editing.description()}, in the {editing.base} image’s run."))
    if view.model.outputs_are == "logits":
        outcome = edits.compute_outcome(view.model_name, images, editing)
        show_chart(edits.class_chart(outcome, editing, source), "edited-classes", "vision-edit")
        st.caption(escape_markdown(edits.class_line(outcome, view.model)))
        return
    st.markdown("**The feature before and after the edits**")
    table = edits.compute_feature_change(view.model_name, images, editing)
    show_table(edits.printed_change(table))
    edits.change_download(table, source)


def _show_sweep_images(view: View, images: Mapping[str, Any], several: Mapping[str, Any]) -> str:
    """What the sweep is over and which classes its metrics compare, before it runs; what the progress bar calls it."""
    if several != images:
        return f"{sweep_images.show(view, several)} images"
    if view.model.outputs_are == "logits":
        st.caption(escape_markdown(edits.answer_line(view.model_name, images, view.model)))
    return view.images.pictures[0].name


def _show_sweep(view: View, sweep: wb.Sweep | None, heads: Mapping[Head, str]) -> None:
    def on_pick(head: Head) -> None:
        sidebar.select_head(head)

    marked = frozenset(heads)
    if sweep is None:
        sweep_view.show_heads(view.model, view.head, marked, on_pick)
        return
    sweep_view.show_sweep(sweep, view.head, marked, on_pick, view.model.n_heads // view.model.n_kv_heads)


def _code(
    view: View,
    images: Mapping[str, Any],
    editing: Editing,
    several: Mapping[str, Any],
    arguments: Mapping[str, Any],
) -> None:
    with st.expander("Show as code", icon=":material/code:"):
        script = python_script(view.model_name, images, editing, several, arguments, view.model.outputs_are)
        st.code(script, language="python")


part = Part("edit", 10, BELOW, render, ("vision",), HELP)
