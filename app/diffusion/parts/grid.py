"""The grid of heads × steps: what an edit of one head in one step does to a metric."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

import workbench as wb
from app import sidebar
from app.components.head_grid import Axis, labelled_grid
from app.diffusion.computed import judged
from app.diffusion.edits import selected_steps
from app.diffusion.script import sweep_script
from app.diffusion.step import select_step
from app.diffusion.sweeps import direction_line, sweep_result, sweep_widgets
from app.diffusion.view import View
from app.downloadable import download_buttons
from app.messages import escape_markdown
from app.number_table import in_print
from app.part import LEFT, Part
from app.patching.circuit_builder import add_heads, current_heads
from app.patching.save_run import save_run_button
from app.patching.sweep_view import SweepDownload, strongest_table
from workbench.core import Head
from workbench.plotting import style

#: Rows of the grid at most: of larger models it shows the open layer.
MOST_ROWS = 96
#: Heads that one click adds to the set, and cells of the table.
STRONGEST, ROWS = 3, 8
STRONGEST_HELP = "The heads with the largest effects in any one step, whatever their p."


def render(view: View) -> None:
    """The part."""
    st.markdown("**Heads × steps**")
    arguments, n = sweep_widgets(judged(view))
    if line := direction_line(view, arguments):
        st.caption(escape_markdown(line))
    sweep = sweep_result(view, arguments, n)
    _show(view, sweep)
    with st.expander("Show as code", icon=":material/code:"):
        st.code(sweep_script(view.model_name, view.settings, view.readout, arguments, n), language="python")


def _show(view: View, sweep: wb.Sweep | None) -> None:
    """The grid, and what belongs to a finished sweep."""
    if sweep is None:
        _grid(view, np.full((view.settings.steps, view.model.n_layers, view.model.n_heads), np.nan), None)
        return
    st.caption(escape_markdown(sweep.baseline_note))
    quantity = sweep.quantity(None)
    _grid(view, getattr(sweep, quantity), sweep)
    st.caption(style.chart_text(sweep, quantity).note)
    if sweep.effect_note:
        st.caption(sweep.effect_note)
    with st.container(horizontal=True):
        strongest = sweep.top(STRONGEST)
        label = f"Add the {len(strongest)} strongest to the set"
        st.button(label, key="add-strongest", on_click=add_heads, args=(strongest,), help=STRONGEST_HELP)
    st.dataframe(in_print(cells_table(sweep, ROWS)), hide_index=True, height="content")
    save_run_button(sweep, current_heads(view.model), view.model_name, f"class {view.settings.label}")
    download_buttons(SweepDownload(sweep), "steps-grid", "diffusion-sweep")


def cells_table(sweep: wb.Sweep, k: int) -> pd.DataFrame:
    """The k cells with the largest mean change, largest first: step, head, effect (or mean change), interval, p."""
    table = strongest_table(sweep, k).dropna(axis="columns", how="all")
    names = table.pop("cell").str.partition(" in step ")
    return pd.concat([names[2].astype(int).rename("step"), names[0].rename("head"), table], axis="columns")


def _grid(view: View, values: np.ndarray, sweep: wb.Sweep | None) -> None:
    n_layers, n_heads = view.model.n_layers, view.model.n_heads
    layers = list(range(n_layers)) if n_layers * n_heads <= MOST_ROWS else [view.head.layer]
    heads = [Head(layer, index) for layer in layers for index in range(n_heads)]
    if len(layers) < n_layers:
        st.caption(f"The heads of layer {view.head.layer}; the downloads have all {n_layers} layers.")

    def in_rows(array: np.ndarray) -> np.ndarray:
        return array[:, layers].reshape(len(array), -1)

    def pick(step: int, row: int) -> None:
        select_step(step)
        sidebar.select_head(heads[row])

    title, units, note, texts = "Every head in every step", "", "No values yet.", None
    if sweep is not None:
        words = style.chart_text(sweep, sweep.quantity(None))
        title, units, note = words.subtitle[:1].upper() + words.subtitle[1:], words.scale, words.title
        cells = style.cell_words(sweep, sweep.quantity(None))
        texts = np.empty(cells.shape, dtype=object)
        for index in np.ndindex(*cells.shape):
            texts[index] = ", ".join(cells[index])
    in_set = current_heads(view.model)
    labelled_grid(
        in_rows(values),
        Axis("step", tuple(map(str, range(len(values))))),
        Axis("head", tuple(map(str, heads))),
        title=title,
        units=units,
        note=note,
        selected=(view.step, heads.index(view.head)),
        texts=None if texts is None else in_rows(texts),
        limit=style.limit(values),
        marked_rows=frozenset(i for i, head in enumerate(heads) if head in in_set),
        marked_columns=frozenset(selected_steps(len(values))),
        key="steps-grid",
        on_pick=pick,
    )


HELP = (
    "**Heads × steps**: one cell for each head in each step. A sweep edits one head in one step at a time and samples "
    "to the end, in the background. It can be stopped; batches of 8 samples that were complete are not computed again. "
    "A click, or the arrow keys, open head and step. Frames are the heads of the set, in the steps of their edit. The "
    f"table has the {ROWS} cells with the largest effects, with 95 % intervals; p is corrected for the number of cells."
)
part = Part("grid", 20, LEFT, render, ("diffusion",), HELP)
