"""Runs: every finished run of this machine, what it found and where it comes from; two of them side by side."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app import options
from app.drawn import table
from app.page import Page
from app.plain import plain
from app.plotted import fitted
from workbench.runs.compare import compare, config_differences
from workbench.runs.locate import finished_runs
from workbench.runs.run import Run

REPORT, TABLES, FIGURES, ORIGIN, COMPARE = "Report", "Tables", "Figures", "Where it comes from", "Compare"
#: Rows of a table that are shown; the download has them all.
SHOWN = 1_000
#: The chart's own camera button draws what is on the screen.
CONFIG = {"displaylogo": False, "toImageButtonOptions": {"format": "svg"}}


def render() -> None:
    """The list, and the chosen run."""
    paths = {path.name: path for path in finished_runs()}
    if not paths:
        st.info("There is no run on this machine yet: `workbench reproduce circuit-reuse` makes one.")
        return
    names = list(paths)
    name = options.select("Run", names, "run")
    run = Run.read_header(paths[name])
    st.caption(_in_a_line(run))
    part = options.segments("Show", [REPORT, TABLES, FIGURES, ORIGIN, COMPARE], "part")
    if part == REPORT:
        st.code(run.summary, language=None, wrap_lines=True)
        st.download_button("Whole run (zip)", lambda: _zip(run), f"{run.path.name}.zip", key="zip", on_click="ignore")
    elif part == TABLES:
        _tables(run)
    elif part == FIGURES:
        _figures(run)
    elif part == ORIGIN:
        st.json(run.facts)
    else:
        _compare(run, [n for n in names if n != name], paths)


def _in_a_line(run: Run) -> str:
    facts, config = run.facts, run.facts.get("config", {})
    parts = [facts.get("finding"), config.get("model"), facts.get("verdict"), facts.get("started")]
    seconds = facts.get("seconds")
    parts.append(None if seconds is None else f"{seconds:.0f} s")
    return " · ".join(str(part) for part in parts if part is not None)


def _tables(run: Run) -> None:
    if not run.table_names:
        st.info("This run has no tables.")
        return
    name = options.select("Table", run.table_names, "table")
    rows = run.table(name)
    more = "" if len(rows) <= SHOWN else f", the first {SHOWN} are shown"
    st.caption(f"{len(rows)} rows{more}")
    st.dataframe(rows.head(SHOWN), hide_index=True)
    st.download_button("CSV", lambda: rows.to_csv(index=False), f"{name}.csv", key="csv", on_click="ignore")


def _figures(run: Run) -> None:
    names = sorted({*run.figure_names, *run.picture_names}, key=lambda name: (len(name), name))
    if not names:
        st.info("This run has no figures.")
        return
    name = options.select("Figure", names, "figure")
    live, still = name in run.figure_names, name in run.picture_names
    if live:
        figure = run.figure(name)
        note = fitted(figure)
        st.plotly_chart(figure, key="run-figure", config=CONFIG)
        st.caption(plain(note))
    else:
        st.image(run.picture(name))
    with st.container(horizontal=True):
        if still:
            st.download_button("PNG", run.picture(name), f"{name}.png", key="png", on_click="ignore", type="tertiary")
        if live:
            data = run.data(f"figures/{name}.json")
            st.download_button(
                "CSV",
                lambda: table(figure).to_csv(index=False),
                f"{name}.csv",
                key="figure-csv",
                on_click="ignore",
                type="tertiary",
            )
            st.download_button("JSON", data, f"{name}.json", key="json", on_click="ignore", type="tertiary")
    if live:
        st.caption("SVG: the camera in the chart's corner.")


def _compare(run: Run, others: list[str], paths: dict[str, Path]) -> None:
    if not others:
        st.info("There is no second run to compare with.")
        return
    other = Run.read_header(paths[options.select("With", others, "run-with")])
    st.dataframe(pd.DataFrame([_difference(row) for row in compare(run, other)]), hide_index=True)
    different = config_differences(run, other)
    rows = [{"fact": key, "this run": str(a), "the other": str(b)} for key, (a, b) in different.items()]
    st.dataframe(pd.DataFrame(rows, columns=["fact", "this run", "the other"]), hide_index=True)


def _difference(found: Any) -> dict[str, Any]:
    said = found.reason or ("agrees" if found.agrees else f"{found.beyond} numbers and {found.words} words differ")
    largest = None if found.reason else found.largest
    return {"table": found.table, "largest difference": largest, "": said}


def _zip(run: Run) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return run.export(Path(folder) / "run.zip").read_bytes()


page = Page("runs", "Runs", "folder_open", 4, render)
