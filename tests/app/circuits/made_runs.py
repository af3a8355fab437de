"""Runs made of the committed tables, and the page on them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd
from streamlit.testing.v1 import AppTest

from app.circuits import from_run
from app.circuits.graph import CircuitGraph
from workbench.io.tables import read_csv
from workbench.registry import ROOT
from workbench.results.circuit import Circuit
from workbench.runs.directory import RunDirectory
from workbench.runs.run import Run

MODEL = "smollm2-135m-instruct-q4"
RESULTS = ROOT / "docs" / "results" / MODEL
HOSTILE = "<script>alert(1)</script>**$x$"


def rows_of(finding: str, table: str) -> list[dict[str, str]]:
    """A committed table, read without pandas."""
    with (RESULTS / finding / "tables" / f"{table}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


#: The page without the side bar; a run of the script has 250 seconds, so that a busy machine passes.
PAGE = """
from app import url_state
from app.pages import circuits
with url_state.update_url():
    circuits.page.render()
"""


def committed(finding: str) -> dict[str, pd.DataFrame]:
    paths = sorted((RESULTS / finding / "tables").glob("*.csv"))
    return {path.stem: read_csv(path) for path in paths}


def make_run(finding: str, tables: dict[str, pd.DataFrame], model: str = MODEL) -> Run:
    """A run directory under ``runs``."""
    with RunDirectory.create(Path("runs"), finding, {"model": model, "n": 20, "percent": 2.0}) as run:
        run.record(model={"name": model}, verdict="undecided")
        for name, frame in tables.items():
            run.add_table(name, frame)
    assert run.path is not None
    return Run.read(run.path)


def graph_of(run: Run, task: str = "ioi") -> CircuitGraph:
    return from_run.graph_of_run(run, Circuit.from_run(run.path, task))


def plotly_of(figure: Any) -> Any:
    """Its Plotly figure."""
    return figure.plotly()


def page(**query: str) -> AppTest:
    app = AppTest.from_string(PAGE, default_timeout=250)
    app.query_params.update(query)
    return app
