"""Runs: every finished run on this machine: its report, tables, figures and provenance; two of them compared."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app import url_widgets
from app.messages import escape_markdown
from app.page import Page
from app.run_figure import show_run_figures
from workbench.plotting.source import Source
from workbench.runs.compare import compare, config_differences
from workbench.runs.locate import finished_runs
from workbench.runs.run import Run

REPORT, TABLES, FIGURES, PROVENANCE, COMPARE = "Report", "Tables", "Figures", "Provenance", "Compare"
HELP = (
    "**Run** lists the finished runs on this machine, the newest first.\n\n"
    "**Report**: the text with its verdict, and the whole run as a zip file. **Tables** and **Figures**: its "
    "numbers and charts with downloads. **Provenance**: settings, seed, hashes and versions, with which it can be "
    "repeated. **Compare**: for each table the largest difference from a second run, and the facts in which the two "
    "differ."
)
#: Rows of a table that the page shows; the download has all.
MAX_ROWS = 1_000


def render() -> None:
    """The list, and the selected run."""
    paths = {path.name: path for path in finished_runs()}
    if not paths:
        how = "Make one: `workbench reproduce circuit-reuse`. Sweeps are on the page Patching."
        st.info(f"There is no run of a finding on this machine yet. {how}")
        return
    names = list(paths)
    name = url_widgets.select("Run", names, "run")
    run = Run.read_header(paths[name])
    st.caption(escape_markdown(_headline(run)))
    part = url_widgets.segments("Show", [REPORT, TABLES, FIGURES, PROVENANCE, COMPARE], "part")
    if part == REPORT:
        st.code(run.summary, language=None, wrap_lines=True)
        st.download_button("Whole run (zip)", lambda: _zip(run), f"{run.path.name}.zip", key="zip", on_click="ignore")
    elif part == TABLES:
        _tables(run)
    elif part == FIGURES:
        show_run_figures(run, "figure")
    elif part == PROVENANCE:
        st.json(run.facts)
    else:
        _compare(run, [other for other in names if other != name], paths)


def _headline(run: Run) -> str:
    facts, config = run.facts, run.facts.get("config", {})
    parts = [facts.get("finding"), config.get("model"), facts.get("verdict"), facts.get("started")]
    seconds = facts.get("seconds")
    parts.append(None if seconds is None else f"{seconds:.0f} s")
    return " · ".join(str(part) for part in parts if part is not None)


def _tables(run: Run) -> None:
    if not run.table_names:
        st.info("This run has no tables.")
        return
    name = url_widgets.select("Table", run.table_names, "table")
    rows = run.table(name)
    limit = "" if len(rows) <= MAX_ROWS else f", of which the first {MAX_ROWS} are shown"
    st.caption(f"{len(rows)} rows{limit}")
    st.dataframe(rows.head(MAX_ROWS), hide_index=True)
    source = Source.of_run(run.facts)
    st.download_button("CSV", lambda: source.csv(rows), f"{name}.csv", key="csv", on_click="ignore")


def _compare(run: Run, others: list[str], paths: dict[str, Path]) -> None:
    if not others:
        st.info("There is no second run to compare with.")
        return
    other = Run.read_header(paths[url_widgets.select("With", others, "run-with")])
    st.dataframe(pd.DataFrame([_difference(row) for row in compare(run, other)]), hide_index=True)
    different = config_differences(run, other)
    rows = [{"fact": key, "this run": str(a), "the other": str(b)} for key, (a, b) in different.items()]
    st.dataframe(pd.DataFrame(rows, columns=["fact", "this run", "the other"]), hide_index=True)


def _difference(comparison: Any) -> dict[str, Any]:
    counts = f"{comparison.beyond} numbers and {comparison.words} words differ"
    result = comparison.reason or ("agrees" if comparison.agrees else counts)
    largest = None if comparison.reason else comparison.largest
    return {"table": comparison.table, "largest difference": largest, "result": result}


def _zip(run: Run) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return run.export(Path(folder) / "run.zip").read_bytes()


page = Page("runs", "Runs", "folder_open", 7, render, help=HELP)
