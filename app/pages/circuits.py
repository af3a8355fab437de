"""Circuits: the heads of a run's circuit as a graph and a table, overlaps between tasks, and published circuits."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from app import sidebar, url_widgets
from app.circuits import from_run, matrices, published_circuits, saved_circuit, selection
from app.circuits.figure import CircuitFigure
from app.circuits.run_tables import EFFECT, LOSS, heads_of, quantity_of, read_columns, summary_lines
from app.circuits.saved_circuit import OPENED, RUN, OpenedCircuit
from app.downloadable import PLOTLY_CONFIG, download_buttons
from app.messages import escape_markdown, show_errors
from app.number_table import in_print
from app.page import Page
from circuits import published
from workbench.errors import WorkbenchError
from workbench.plotting.source import Source
from workbench.results.circuit import Circuit
from workbench.runs.locate import finished_runs
from workbench.runs.run import Run

TASK, PART, PERCENT = "circuit-task", "circuit-part", "circuit-percent"
MODEL, PUBLISHED_TASK = "circuit-published", "circuit-published-task"
CIRCUIT, OVERLAP, ABLATION, PUBLISHED = "Circuit", "Overlap", "Cross-ablation", "Published"
MAKE_A_RUN = "Make one: `workbench reproduce circuit-reuse`."
HELP = (
    "**Run** lists the runs on this machine that found circuits, **Task** the tasks of one of them; *Open a file* "
    "shows a circuit saved as JSON. Click a head in the graph or in the table to select it.\n\n"
    "**Circuit**: the heads with their roles, by layer; the note below the graph says what its markers and lines "
    "are. **Overlap**: the heads that the circuits of two tasks share, as a share of the heads of both, beside "
    "random circuits with as many heads in each layer; *Heads of each stage* sets how many heads count. "
    "**Cross-ablation**: the share of a task’s logit difference that is lost when another task’s circuit is ablated. "
    "**Published**: circuits as papers report them."
)
#: Pixels of a table that may have many rows.
TABLE_HEIGHT = 560


def render() -> None:
    """The widgets of a run and a task, and the selected part."""
    runs = _runs()
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    with right, st.popover("Open a file", icon=":material/upload_file:"):
        saved_circuit.upload_widget()
    opened = saved_circuit.opened_circuit()
    names = [*([OPENED] if opened else []), *runs]
    if not names:
        st.info(f"There is no run with a circuit on this machine. {MAKE_A_RUN} Or open a saved circuit.")
        with show_errors():
            _published("")
        return
    with left:
        name = url_widgets.select("Run", names, RUN, format_func=lambda key: _label(key, runs, opened))
    with show_errors():
        if name == OPENED and opened is not None:
            _saved(opened.circuit)
        else:
            _run(runs[name])


def _runs() -> dict[str, Run]:
    """The runs with circuits, newest first; a line for those that cannot be read."""
    runs, errors = {}, []
    for path in finished_runs():
        try:
            run = Run.read_header(path)
        except WorkbenchError as error:
            errors.append(str(error))
            continue
        if "heads" in run.table_names:
            runs[path.name] = run
    if errors:
        rest = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        st.warning(f"A run cannot be read: {escape_markdown(errors[0])}{rest}", icon=":material/warning:")
    return runs


def _label(name: str, runs: dict[str, Run], opened: OpenedCircuit | None) -> str:
    if name not in runs and opened is not None:
        return f"file {opened.file}: {opened.circuit.name} · {opened.circuit.model}"
    facts = runs[name].facts
    model = facts.get("model")
    return " · ".join(map(str, (facts.get("finding"), model.get("name") if isinstance(model, dict) else model, name)))


def _run(run: Run) -> None:
    circuits = Circuit.all_from_run(run.path)
    if not circuits:
        st.info(f"This run has no heads: its table of heads is empty. {MAKE_A_RUN}")
        return
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    with left:
        circuit = circuits[url_widgets.select("Task", list(circuits), TASK)]
    with right:
        part = url_widgets.segments("Show", [CIRCUIT, OVERLAP, ABLATION, PUBLISHED], PART)
    if part == CIRCUIT:
        _circuit(circuit, run)
    elif part == OVERLAP:
        _overlap(run)
    elif part == ABLATION:
        _ablation(run)
    else:
        _compare_with_published(run, circuit)


def _saved(circuit: Circuit) -> None:
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        part = url_widgets.segments("Show", [CIRCUIT, PUBLISHED], PART)
    close = saved_circuit.close_circuit
    right.button("Close the file", on_click=close, key="circuit-close", icon=":material/close:")
    if part == CIRCUIT:
        _circuit(circuit, None)
    else:
        _published(circuit.model)


def _circuit(circuit: Circuit, run: Run | None) -> None:
    published_roles = published_circuits.published_roles(circuit.model, circuit.name)
    head = selection.sidebar_head()
    if run is not None:
        with show_errors():
            st.caption(escape_markdown(" ".join([_run_facts(run), *summary_lines(run, circuit.name)])))
    left, right = st.columns(2, gap="medium")
    with left, show_errors():
        if run is None:
            graph = from_run.graph_of_circuit(circuit, head)
        else:
            graph = from_run.graph_of_run(run, circuit, head, published_roles)
        selection.show_graph(graph)
        st.caption(escape_markdown(graph.note))
        download_buttons(CircuitFigure(graph, _source(circuit, run)), "circuit-graph", f"{_file_name(circuit)}-graph")
    with right:
        table = circuit.table() if run is None else _heads(run, circuit)
        if published_roles:
            table["published as"] = [published_roles.get(h, "") for h in selection.heads_of_rows(table)]
        selection.show_selection(table, circuit.model)
        selection.show_table(table)
        st.download_button(
            "Circuit as JSON",
            circuit.to_bytes(),
            f"{_file_name(circuit)}.json",
            "application/json",
            key="circuit-json",
            on_click="ignore",
            icon=":material/download:",
        )


def _heads(run: Run, circuit: Circuit) -> pd.DataFrame:
    """The circuit's heads for the table: effects or losses by their name, without stages that only repeat the roles."""
    table = heads_of(run, circuit)
    quantity = quantity_of(run)
    table = table.rename(columns={"effect": "loss" if quantity == LOSS else quantity}) if quantity != EFFECT else table
    return table.drop(columns="stage") if list(table["stage"]) == list(table["role"]) else table


def _file_name(circuit: Circuit) -> str:
    """A safe file name: the circuit's own name may be anything."""
    return f"circuit-{re.sub(r'[^A-Za-z0-9]+', '-', circuit.name)[:60]}"


def _run_facts(run: Run) -> str:
    return " · ".join(str(run.facts[key]) for key in ("finding", "verdict", "started") if run.facts.get(key)) + "."


def _overlap(run: Run) -> None:
    if "overlap" not in run.table_names:
        st.info(f"This run does not compare tasks. {MAKE_A_RUN}")
        return
    as_in_run, percents = "as in the run", {}
    if "overlap_percent" in run.table_names:
        values = read_columns(run, "overlap_percent", [], ["percent"])["percent"]
        percents = {f"{percent:g} %": float(percent) for percent in sorted(set(values))}
    selected = url_widgets.segments("Heads of each stage", [as_in_run, *percents], PERCENT)
    matrix = matrices.overlap(run, percents.get(selected))
    if not len(matrix.rows):
        st.info("The model can do fewer than two of this run’s tasks, so there is no pair to compare.")
        return
    table = matrices.beyond_null(matrix.rows)
    above, whole = (table["above_null"] != "no").sum(), (table["above_null"] == "whole interval").sum()
    heading = (
        f"{above} of {len(table)} pairs share more heads than the 95th percentile of layer-matched random circuits, "
        f"{whole} of them with the whole interval above it."
    )
    note = "p: exact, under the layer-matched null. p_holm: corrected for the number of pairs (Holm 1979)."
    _show(matrix, "overlap", heading, table, note)


def _ablation(run: Run) -> None:
    if "cross_ablation" not in run.table_names:
        st.info(f"This run does not ablate circuits on other tasks. {MAKE_A_RUN}")
        return
    matrix = matrices.cross_ablation(run)
    if not len(matrix.rows):
        st.info("The model can do none of this run’s tasks, so there is no circuit to ablate.")
        return
    note = (
        "damage: the share of the logit difference that is lost, with its interval from low to high. random: the mean "
        "damage over random sets of heads, random_low to random_high: its range. beyond_random: damage minus random."
    )
    _show(
        matrix,
        "cross-ablation",
        "Share of the logit difference lost, compared with random heads of the same layers",
        matrix.rows,
        note,
    )


def _show(matrix: matrices.Matrix, name: str, heading: str, table: pd.DataFrame, note: str) -> None:
    """A matrix, and its numbers with a heading."""
    left, right = st.columns([4, 5], gap="medium")
    with left:
        st.plotly_chart(matrix.plotly(), key=f"circuit-{name}", config=PLOTLY_CONFIG)
        st.caption(escape_markdown(matrix.note))
        download_buttons(matrix, f"circuit-{name}", name)
    with right:
        st.markdown(f"**{heading}**")
        st.dataframe(in_print(table, ".2g"), hide_index=True, column_config=_columns(table), height=TABLE_HEIGHT)
        st.caption(note)


def _compare_with_published(run: Run, circuit: Circuit) -> None:
    """The run's own comparison with published numbers, where it has one, and the published circuits."""
    for heading, table in published_circuits.comparison_tables(run).items():
        st.markdown(f"**{heading}**")
        st.dataframe(in_print(table, ".2g"), hide_index=True, column_config=_columns(table))
    if published.of_model(circuit.model) is None:
        st.info(f"The workbench has no published circuit of {escape_markdown(circuit.model or 'this model')}.")
    _published(circuit.model, circuit, run)


def _source(circuit: Circuit, run: Run | None) -> Source:
    """What the downloads of a circuit name; of one in a run with the version that found it."""
    source = Source() if run is None else Source.of_run(run.facts)
    return replace(source, model=circuit.model, task=circuit.name)


def _published(model: str, measured: Circuit | None = None, run: Run | None = None) -> None:
    """A published circuit as a graph and a table; the measured one next to it where it is the same model's."""
    models = list(published.models())
    short_name = model.rsplit("/", 1)[-1]
    left, right = st.columns(2)
    with left:
        default = short_name if short_name in models else None
        name = url_widgets.select("Published circuit of", models, MODEL, default)
    with right:
        task = url_widgets.select("on the task", published_circuits.published_tasks(name), PUBLISHED_TASK)
    circuit = published_circuits.published_circuit(name, task)
    left, right = st.columns(2, gap="medium")
    with left:
        graph = from_run.graph_of_circuit(circuit, source="published")
        figure = CircuitFigure(graph, Source(name, task=task))
        st.plotly_chart(figure.plotly(), key="circuit-published-graph", config=PLOTLY_CONFIG)
        st.caption(escape_markdown(f"{published_circuits.source_text(name, task)}. {graph.note}"))
        download_buttons(figure, "circuit-published", f"published-{name}-{task}")
    with right:
        if measured is not None and short_name == name and measured.name == task:
            graph = from_run.graph_of_circuit(measured, source="measured")
            figure = CircuitFigure(graph, _source(measured, run))
            st.plotly_chart(figure.plotly(), key="circuit-measured-graph", config=PLOTLY_CONFIG)
            download_buttons(figure, "circuit-measured", f"{_file_name(measured)}-graph")
        for table in (published_circuits.head_table(name, task), published_circuits.value_table(name)):
            if len(table):
                st.dataframe(in_print(table, ".2g"), hide_index=True, column_config=_columns(table))
        st.caption(published_circuits.LEGEND)


def _columns(frame: pd.DataFrame) -> dict[str, Any]:
    """Numbers with two digits (downloads have all), and text columns as wide as their longest text."""
    numbers = frame.select_dtypes("number")
    config: dict[str, Any] = {name: st.column_config.NumberColumn(width=56) for name in numbers}
    for name in frame.columns.difference(numbers.columns):
        longest = max((len(str(text)) for text in frame[name]), default=0)
        config[str(name)] = st.column_config.TextColumn(width=min(240, 18 + 7 * max(longest, len(str(name)))))
    return config


page = Page("circuits", "Circuits", "account_tree", 5, render, uses=(sidebar.HEAD,), help=HELP)
