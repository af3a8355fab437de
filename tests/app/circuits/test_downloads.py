"""What is downloaded of a circuit and of a matrix."""

from __future__ import annotations

import io
import json
from html import escape

import pandas as pd
import pytest

from app.circuits import from_run, matrices
from tests.app.circuits.made_runs import HOSTILE, committed, drawn_by, graph_of, made, rows_of
from workbench.core import Head
from workbench.results.circuit import Circuit


def test_downloads_hold_the_very_numbers() -> None:
    graph = graph_of(made("circuit-reuse", committed("circuit-reuse")))
    table = pd.read_csv(io.BytesIO(graph.csv()), dtype={"head": str})
    heads = table[table["what"] == "head"]
    for row in [row for row in rows_of("circuit-reuse", "heads") if row["task"] == "ioi"]:
        found = heads[(heads["head"] == row["head"]) & (heads["role"] == row["role"])]
        numbers = [float(row[name]) for name in ("mean_effect", "effect_low", "effect_high", "p_value")]
        assert [list(found[name]) for name in ("value", "low", "high", "p_value")] == [[number] for number in numbers]
    data = json.loads(graph.json())
    assert len(data["nodes"]) == len(graph.nodes) and len(data["lines"]) == len(graph.lines)
    assert data["nodes"][0]["head"] == "23.3" and data["nodes"][0]["strength"]["value"] == pytest.approx(
        0.5849, abs=1e-4
    )
    assert graph.still("png").startswith(b"\x89PNG") and b"<svg" in graph.still("svg")


def test_hostile_names_are_text_in_every_form() -> None:
    circuit = Circuit(HOSTILE, HOSTILE, ((Head(0, 1), HOSTILE), (Head(1, 0), r"$\frac{")))
    graph = from_run.graph_of_circuit(circuit)
    drawn = str(drawn_by(graph).to_json())
    assert "&lt;script&gt;" in drawn and "<script" not in drawn
    lane = "".join(drawn_by(graph).layout.xaxis.ticktext[0].split("<br>"))
    assert lane == escape(HOSTILE, quote=False)  # no line ends within an entity
    still = graph.still("svg")
    assert b"<script" not in still and graph.still("png")
    overlaps = committed("circuit-reuse")
    for name in ("overlap", "tasks"):
        overlaps[name] = overlaps[name].replace("ioi", HOSTILE)
    matrix = matrices.overlap(made("circuit-reuse", overlaps))
    assert "<script" not in str(drawn_by(matrix).to_json()) and matrix.image("png")
    assert HOSTILE in matrix.csv().decode()
