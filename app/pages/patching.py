"""Patching: a sweep over a task or the user's own pairs, manual edits of a set of heads, and a circuit of that set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st
import torch

import workbench as wb
from app import models, sidebar, url_widgets
from app.downloadable import show_chart
from app.messages import show_errors
from app.page import Page
from app.patching import circuit_builder, forced_rows, manual_edits, sweep_view
from app.patching.faithfulness import faithfulness
from app.patching.pairs_input import pairs_widgets
from app.patching.script import python_script
from app.patching.sweep_controls import sweep_result, sweep_widgets
from workbench.core import Edit, Head

#: Heads that one click adds from a sweep.
STRONGEST = 5


def render() -> None:
    """The page."""
    name = sidebar.model_name()
    model = models.load(name)
    head = sidebar.selected_head(model)
    prompts: dict[str, Any] = {}
    sweep: wb.Sweep | None = None
    with show_errors():
        prompts = pairs_widgets()
    if not prompts:
        return
    arguments = sweep_widgets()
    with show_errors():
        sweep = sweep_result(model, name, prompts, arguments)
    left, right = st.columns([3, 2], gap="medium")
    with left, show_errors():
        _sweep(model, sweep, head, arguments)
    with right:
        st.subheader("Manual edits", anchor=False)
        strongest = sweep.top(STRONGEST) if sweep is not None and "head" in sweep.axes else []
        heads = circuit_builder.set_widgets(model, head, strongest)
        with show_errors():
            _manual_edits(model, name, prompts, arguments, head, list(heads))
    with left:
        st.subheader("Circuit", anchor=False)
        circuit_builder.circuit_widgets(model, head, name, str(prompts.get("task", "pairs")))
        with show_errors():
            faithfulness(name, prompts, heads)


def _sweep(model: Any, sweep: wb.Sweep | None, head: Head, arguments: Mapping[str, Any]) -> None:
    if sweep is None:
        st.info("The sweep’s heatmap will appear here. You can already add heads to the set and edit them.")
        return
    if warning := sweep_view.task_warning(sweep, arguments.get("direction") == "denoise"):
        st.warning(warning)
    toggles = url_widgets.toggle("A click also adds the head to the set, or removes it", "adding")

    def on_pick(head: Head) -> None:
        sidebar.select_head(head)
        if toggles and "kv_head" not in sweep.axes:  # several heads share a key/value head
            circuit_builder.toggle_head(head)

    group = model.n_heads // model.n_kv_heads
    sweep_view.show_sweep(sweep, head, frozenset(circuit_builder.current_heads(model)), on_pick, group)
    table = sweep_view.strongest_table(sweep)
    numbers = {c: st.column_config.NumberColumn(format="%.3g") for c in table.select_dtypes("number")}
    st.dataframe(table, hide_index=True, column_config=numbers, height="content")


def _manual_edits(
    model: Any,
    name: str,
    prompts: Mapping[str, Any],
    arguments: Mapping[str, Any],
    head: Head,
    heads: list[Head],
) -> None:
    base = "corrupt" if arguments.get("direction") == "denoise" else "clean"
    edited = manual_edits.prompt_widget(model, name, prompts, base)
    kinds = manual_edits.PAIRED if edited.pairs else manual_edits.UNPAIRED
    kind_column, at_column = st.columns(2)
    with kind_column:
        kind = url_widgets.select("The set’s heads are", list(kinds), "kind-by-hand", format_func=kinds.__getitem__)
    with at_column:
        at = url_widgets.select("at", [manual_edits.EVERYWHERE, manual_edits.AT_END], "at-by-hand")
    chart = st.container()  # above the widgets of forced rows, and filled when they are known
    rows = forced_rows.row_widgets(model, head, model.to_str_tokens(torch.tensor(edited.ids)))
    edits = manual_edits.to_edits(heads, kind, at == manual_edits.AT_END, rows)
    with st.expander("Show as code", icon=":material/code:"):
        script = python_script(name, prompts, arguments, edited, sidebar.prompt(), edits)
        st.code(script, language="python")
    everywhere = at == manual_edits.EVERYWHERE
    if overridden := forced_rows.overridden_heads(rows, heads, everywhere, len(edited.ids) - 1):
        st.warning(f"These heads are also in the set, so their forced row has no effect: {', '.join(overridden)}.")
    with chart, show_errors():
        parts = [f"{_counted(len(heads), 'head')} {kinds[kind]}, {at}"] if heads else []
        parts += [_counted(len(rows), "forced row")] if rows else []
        _change(model, name, edited, edits, " · ".join(parts))


def _change(
    model: Any, name: str, edited: manual_edits.EditedPrompt, edits: tuple[Edit, ...], description: str
) -> None:
    if not edits:
        st.info("Add heads to the set, or force a row, to compare the next token before and after.")
        return
    change = manual_edits.compute_change(name, edited, edits)
    show_chart(manual_edits.change_chart(change, model, edited, edits, description), "by-hand", "next-token")
    difference = ""
    if change.logit_differences is not None:
        before, after = change.logit_differences
        difference = f" Logit difference of the pair: {before:z.3f} before, {after:z.3f} after."
    st.caption(f"KL(before ‖ after) {change.kl:z.3g} nats.{difference} With one prompt there is no interval.")


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


page = Page("patching", "Patching", "healing", 2, render, ("language",), sidebar.FIELDS)
