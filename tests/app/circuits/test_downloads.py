"""Downloads of a circuit and of a matrix."""

from __future__ import annotations

import io
import json
import re
from html import escape

import pandas as pd
import pytest

from app.circuits import from_run, matrices
from app.circuits.figure import CircuitFigure
from tests.app.circuits.made_runs import HOSTILE, committed, graph_of, make_run, plotly_of, rows_of
from workbench.core import Head
from workbench.results.circuit import Circuit


def test_downloads_hold_the_exact_numbers() -> None:
    graph = graph_of(make_run("circuit-reuse", committed("circuit-reuse")))
    table = pd.read_csv(io.BytesIO(CircuitFigure(graph).csv()))
    table["head"] = [re.sub(r"^L(\d+)H(\d+)$", r"\1.\2", str(name)) for name in table["head"]]
    heads = table[table["what"] == "head"]
    for row in [row for row in rows_of("circuit-reuse", "heads") if row["task"] == "ioi"]:
        marker = heads[(heads["head"] == row["head"]) & (heads["role"] == row["role"])]
        numbers = [float(row[name]) for name in ("mean_effect", "effect_low", "effect_high", "p_value")]
        assert [list(marker[name]) for name in ("value", "low", "high", "p_value")] == [[number] for number in numbers]
    data = json.loads(CircuitFigure(graph).json())
    assert len(data["nodes"]) == len(graph.nodes) and len(data["lines"]) == len(graph.lines)
    assert data["nodes"][0]["head"] == "23.3" and data["nodes"][0]["strength"]["value"] == pytest.approx(
        0.5849, abs=1e-4
    )
    assert CircuitFigure(graph).image("png").startswith(b"\x89PNG") and b"<svg" in CircuitFigure(graph).image("svg")


def test_hostile_names_are_text_in_every_form() -> None:
    circuit = Circuit(HOSTILE, HOSTILE, ((Head(0, 1), HOSTILE), (Head(1, 0), r"$\frac{")))
    graph = from_run.graph_of_circuit(circuit)
    page_json = str(plotly_of(CircuitFigure(graph)).to_json())
    assert "&lt;script&gt;" in page_json and "<script" not in page_json
    lane = "".join(plotly_of(CircuitFigure(graph)).layout.xaxis.ticktext[0].split("<br>"))
    assert lane == escape(HOSTILE, quote=False)  # no line ends within an entity
    svg = CircuitFigure(graph).image("svg")
    assert b"<script" not in svg and CircuitFigure(graph).image("png")
    overlaps = committed("circuit-reuse")
    for name in ("overlap", "tasks"):
        overlaps[name] = overlaps[name].replace("ioi", HOSTILE)
    matrix = matrices.overlap(make_run("circuit-reuse", overlaps))
    assert "<script" not in str(plotly_of(matrix).to_json()) and matrix.image("png")
    assert HOSTILE in matrix.csv().decode()
