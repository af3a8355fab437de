"""Overlap and cross-ablation of tasks, with their controls."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from app.circuits import matrices
from app.circuits.run_tables import heads_of, summary_lines
from tests.app.circuits.made_runs import committed, make_run, plotly_of, rows_of
from workbench.errors import BadInput
from workbench.results.circuit import Circuit


def test_the_overlap_matrix_is_the_table_with_nulls() -> None:
    run = make_run("circuit-reuse", committed("circuit-reuse"))
    trace = plotly_of(matrices.overlap(run)).data[0]
    at = {name: i for i, name in enumerate(trace.x)}
    for row in rows_of("circuit-reuse", "overlap"):
        i, j = sorted((at[row["task_a"]], at[row["task_b"]]))
        assert trace.z[i][j] == float(row["jaccard"]) and trace.z[j][i] == float(row["null_95"])
        text = trace.customdata[i][j]
        assert f"[{float(row['low']):z.2f}, {float(row['high']):z.2f}]" in text
        assert f"95th percentile {float(row['null_95']):z.2f}" in text and f"p = {float(row['p_value']):.2g}" in text
    split_halves = {row["task"]: row["split_half"] for row in rows_of("circuit-reuse", "tasks")}
    assert trace.z[at["ioi"]][at["ioi"]] == pytest.approx(float(split_halves["ioi"]))
    ten = matrices.overlap(run, 10.0)
    assert {row["percent"] for row in ten.rows.to_dict("records")} == {10.0} and len(ten.rows) == 28


def test_heads_that_are_numbers_are_refused_where_their_names_matter() -> None:
    tables = committed("faithfulness")
    numeric = tables["minimality"].assign(head=[float(head) for head in tables["minimality"]["head"]])
    run = make_run("faithfulness", tables | {"minimality": numeric})
    with pytest.raises(BadInput, match="expected heads as text"):
        heads_of(run, Circuit.from_run(run.path, "ioi"))


def test_which_pairs_clear_their_null() -> None:
    frame = pd.DataFrame(
        {
            "task_a": ["a", "b", "c", "d", "e"],
            "task_b": ["x"] * 5,
            "jaccard": [0.5, 0.4, 0.1, 0.2, 0.3],
            "low": [0.3, 0.1, 0.05, 0.2, 0.2],
            "high": [0.7, 0.6, 0.3, 0.2, 0.4],
            "null_95": [0.2] * 5,
            "p_value": [0.01] * 5,
            "pair": ["near"] * 5,
        }
    )
    table = matrices.beyond_null(frame)
    assert dict(zip(table["pairs"], table["above_null"], strict=True)) == {
        "a × x": "whole interval",
        "b × x": "estimate only",
        "c × x": "no",
        "d × x": "no",  # on the percentile is not above it
        "e × x": "estimate only",
    }
    assert table["jaccard"].tolist() == [0.5, 0.4, 0.3, 0.2, 0.1]


def test_the_cross_ablation_matrix_is_less_its_random_control_and_centred_on_zero() -> None:
    matrix = matrices.cross_ablation(make_run("circuit-reuse", committed("circuit-reuse")))
    trace = plotly_of(matrix).data[0]
    at = {name: i for i, name in enumerate(trace.x)}
    for row in rows_of("circuit-reuse", "cross_ablation"):
        i, j = at[row["ablated"]], at[row["measured"]]
        assert trace.z[i][j] == float(row["beyond_random"])
        assert f"random heads of its layers {float(row['random']):z.2f}".replace("-", "−") in trace.customdata[i][j]
    assert trace.zmin == -trace.zmax
    data = json.loads(matrix.json())
    assert len(data["rows"]) == 64 and {"random", "random_low", "random_high"} <= set(data["rows"][0])


def test_a_table_that_is_not_as_findings_write_it_is_refused() -> None:
    tables = committed("circuit-reuse")
    run = make_run("circuit-reuse", tables | {"overlap": tables["overlap"].drop(columns="null_95")})
    with pytest.raises(BadInput, match="null_95"):
        matrices.overlap(run)
    run = make_run("circuit-reuse", tables | {"cross_ablation": tables["cross_ablation"].assign(damage="much")})
    with pytest.raises(BadInput, match="expected numbers"):
        matrices.cross_ablation(run)


def test_the_summary_of_a_circuit_has_a_control() -> None:
    text = " ".join(summary_lines(make_run("circuit-reuse", committed("circuit-reuse")), "ioi"))
    [row] = [r for r in rows_of("circuit-reuse", "cross_ablation") if r["ablated"] == r["measured"] == "ioi"]
    text = text.replace("\N{MINUS SIGN}", "-")
    assert f"{float(row['damage']):z.2f} [{float(row['low']):z.2f}, {float(row['high']):z.2f}]" in text
    assert f"{float(row['random']):z.2f} ({float(row['random_low']):z.2f} to {float(row['random_high']):z.2f})" in text
    text = " ".join(summary_lines(make_run("faithfulness", committed("faithfulness")), "ioi"))
    shares = [float(r["share"]) for r in rows_of("faithfulness", "faithfulness") if "random" in r["set"]]
    text = text.replace("\N{MINUS SIGN}", "-")
    assert f"{len(shares)} random circuits keep {min(shares):z.2f} to {max(shares):z.2f}" in text
