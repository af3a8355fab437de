"""Circuits: the heads that a run found, as a graph and a table, what tasks share, and what was published."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import streamlit as st

from app import options
from app.circuits import circuit_file, circuit_head, circuit_matrices, circuit_published, circuit_read
from app.circuits.circuit_file import OPENED, RUN
from app.circuits.circuit_tables import columns, has_effects, heads_of, in_words
from app.page import Page
from app.plain import guarded, plain
from app.shown import downloads
from circuits import published
from workbench.errors import WorkbenchError
from workbench.results.circuit import Circuit
from workbench.runs.locate import finished_runs
from workbench.runs.run import Run

TASK, PART, PERCENT = "circuit-task", "circuit-part", "circuit-percent"
MODEL, PUBLISHED_TASK = "circuit-published", "circuit-published-task"
CIRCUIT, OVERLAP, ABLATION, PUBLISHED = "Circuit", "Overlap", "Cross-ablation", "Published"
MAKE = "`workbench reproduce circuit-reuse` makes one."
CONFIG = {"displaylogo": False}
#: Pixels of a table that may have many rows.
TALL = 560


def render() -> None:
    """The choice of a run and a task, and the chosen part."""
    runs = _runs()
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    with right, st.popover("Open a file", icon=":material/upload_file:"):
        circuit_file.uploader()
    saved = circuit_file.opened()
    names = [*([OPENED] if saved else []), *runs]
    if not names:
        st.info(f"No run on this machine has a circuit yet: {MAKE} A saved circuit can be opened as a file.")
        with guarded():
            _published("")
        return
    with left:
        name = options.select("Run", names, RUN, format_func=lambda key: _label(key, runs, saved))
    with guarded():
        if name == OPENED and saved is not None:
            _saved(saved)
        else:
            _run(runs[name])


def _runs() -> dict[str, Run]:
    """The runs that hold circuits, newest first; a line for those that cannot be read."""
    found, wrong = {}, []
    for path in finished_runs():
        try:
            run = Run.read_header(path)
        except WorkbenchError as error:
            wrong.append(str(error))
            continue
        if "heads" in run.table_names:
            found[path.name] = run
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        st.warning(f"A run cannot be read and is left out: {plain(wrong[0])}{more}", icon=":material/warning:")
    return found


def _label(name: str, runs: dict[str, Run], saved: Circuit | None) -> str:
    if name not in runs and saved is not None:
        return f"the opened file: {saved.name} · {saved.model}"
    facts = runs[name].facts
    model = facts.get("model")
    return " · ".join(map(str, (facts.get("finding"), model.get("name") if isinstance(model, dict) else model, name)))


def _run(run: Run) -> None:
    circuits = Circuit.all_from_run(run.path)
    if not circuits:
        st.info(f"This run found no head: its table of heads is empty. {MAKE}")
        return
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    with left:
        circuit = circuits[options.select("Task", list(circuits), TASK)]
    with right:
        part = options.segments("Show", [CIRCUIT, OVERLAP, ABLATION, PUBLISHED], PART)
    if part == CIRCUIT:
        _circuit(circuit, run)
    elif part == OVERLAP:
        _overlap(run)
    elif part == ABLATION:
        _ablation(run)
    else:
        _beside(run, circuit)


def _saved(circuit: Circuit) -> None:
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        part = options.segments("Show", [CIRCUIT, PUBLISHED], PART)
    right.button("Close the file", on_click=circuit_file.close, key="circuit-close", icon=":material/close:")
    if part == CIRCUIT:
        _circuit(circuit, None)
    else:
        _published(circuit.model)


def _circuit(circuit: Circuit, run: Run | None) -> None:
    names = circuit_published.roles_of(circuit.model, circuit.name)
    head = circuit_head.chosen_one()
    if run is not None:
        with guarded():
            st.caption(plain(" ".join([_about(run), *in_words(run, circuit.name)])))
    left, right = st.columns(2, gap="medium")
    with left, guarded():
        graph = circuit_read.of_run(run, circuit, head, names) if run else circuit_read.of_circuit(circuit, head)
        circuit_head.graph(graph)
        st.caption(plain(graph.note))
        downloads(graph, "circuit-graph", _file_name(circuit))
    with right:
        table = circuit.table() if run is None else _heads(run, circuit)
        if names:
            table["published as"] = [names.get(h, "") for h in circuit_head.heads(table)]
        circuit_head.said(table, circuit.model)
        circuit_head.table(table)
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
    """The circuit's heads for the table: what is measured by its name, and no stage that only repeats the role."""
    table = heads_of(run, circuit)
    if not has_effects(run):
        table = table.rename(columns={"effect": "loss"})
    return table.drop(columns="stage") if list(table["stage"]) == list(table["role"]) else table


def _file_name(circuit: Circuit) -> str:
    """A plain name: a circuit's own may be anything."""
    return f"circuit-{re.sub(r'[^A-Za-z0-9]+', '-', circuit.name)[:60]}"


def _about(run: Run) -> str:
    facts = run.facts
    return " · ".join(str(facts[key]) for key in ("finding", "verdict", "started") if facts.get(key)) + "."


def _overlap(run: Run) -> None:
    if "overlap" not in run.table_names:
        st.info(f"This run compares no tasks: {MAKE}")
        return
    own, shares = "as in the run", {}
    if "overlap_percent" in run.table_names:
        percents = columns(run, "overlap_percent", [], ["percent"])["percent"]
        shares = {f"{percent:g} %": float(percent) for percent in sorted(set(percents))}
    share = options.segments("Heads of each stage", [own, *shares], PERCENT)
    matrix = circuit_matrices.overlap(run, shares.get(share))
    if not len(matrix.rows):
        st.info("The model does fewer than two of this run's tasks: there is no pair to compare.")
        return
    beyond = circuit_matrices.beyond_null(matrix.rows)
    above, surely = (beyond["beyond"] != "no").sum(), (beyond["beyond"] == "surely").sum()
    said = (
        f"{above} of {len(beyond)} pairs share more than the 95th percentile of layer-matched random circuits, "
        f"{surely} of them with their whole interval."
    )
    note = "p: exact, of the layer-matched null; p_holm: corrected for the number of pairs (Holm 1979)."
    _show(matrix, "overlap", said, beyond, note)


def _ablation(run: Run) -> None:
    if "cross_ablation" not in run.table_names:
        st.info(f"This run ablates no circuits on other tasks: {MAKE}")
        return
    matrix = circuit_matrices.cross_ablation(run)
    if not len(matrix.rows):
        st.info("The model does none of this run's tasks: there is no circuit to ablate.")
        return
    note = (
        "damage: the lost share of the logit difference [low, high]; random: the mean of the random sets, "
        "random_low and random_high the least and the most of them; beyond_random: damage less their mean."
    )
    _show(matrix, "cross-ablation", "Each ablation beside random heads of the same layers", matrix.rows, note)


def _show(matrix: circuit_matrices.Matrix, name: str, said: str, table: pd.DataFrame, note: str) -> None:
    """A matrix, and beside it what it says and the numbers."""
    left, right = st.columns([4, 5], gap="medium")
    with left:
        st.plotly_chart(matrix.plotly(), key=f"circuit-{name}", config=CONFIG)
        st.caption(plain(matrix.note))
        downloads(matrix, f"circuit-{name}", name)
    with right:
        st.markdown(f"**{said}**")
        st.dataframe(table, hide_index=True, column_config=_columns(table), height=TALL)
        st.caption(note)


def _beside(run: Run, circuit: Circuit) -> None:
    """The run's own comparison with what was published, where there is one, and what was published."""
    for words, table in circuit_published.tables(run).items():
        st.markdown(f"**{words}**")
        st.dataframe(table, hide_index=True, column_config=_columns(table))
    if published.of_model(circuit.model) is None:
        st.info(f"No circuit of {plain(circuit.model or 'this model')} was published that is known here.")
    _published(circuit.model, circuit)


def _published(model: str, measured: Circuit | None = None) -> None:
    """A published circuit as a graph and a table, beside the measured one where that is the same model's."""
    known_models = list(published.models())
    own = model.rsplit("/", 1)[-1]
    left, right = st.columns(2)
    with left:
        name = options.select("Published circuit of", known_models, MODEL, own if own in known_models else None)
    with right:
        task = options.select("on the task", circuit_published.tasks(name), PUBLISHED_TASK)
    circuit = circuit_published.circuit(name, task)
    left, right = st.columns(2, gap="medium")
    with left:
        graph = circuit_read.of_circuit(circuit, source="published")
        st.plotly_chart(graph.plotly(), key="circuit-published-graph", config=CONFIG)
        st.caption(plain(f"{circuit_published.sources(name, task)}. {graph.note}"))
        downloads(graph, "circuit-published", f"published-{name}-{task}")
    with right:
        if measured is not None and own == name and measured.name == task:
            graph = circuit_read.of_circuit(measured, source="measured")
            st.plotly_chart(graph.plotly(), key="circuit-measured-graph", config=CONFIG)
            downloads(graph, "circuit-measured", _file_name(measured))
        for table in (circuit_published.heads(name, task), circuit_published.values(name)):
            if len(table):
                st.dataframe(table, hide_index=True, column_config=_columns(table))
        st.caption(circuit_published.LEGEND)


def _columns(frame: pd.DataFrame) -> dict[str, Any]:
    """Numbers to two digits (the downloads have them all), and texts as wide as they are."""
    numbers = frame.select_dtypes("number")
    found: dict[str, Any] = {name: st.column_config.NumberColumn(format="%.2g", width=56) for name in numbers}
    for name in frame.columns.difference(numbers.columns):
        longest = max((len(str(text)) for text in frame[name]), default=0)
        found[str(name)] = st.column_config.TextColumn(width=min(240, 18 + 7 * max(longest, len(str(name)))))
    return found


page = Page("circuits", "Circuits", "account_tree", 3, render)
