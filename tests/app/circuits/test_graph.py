"""The graph of a circuit shows what was measured, and no more."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from app.circuits import from_run
from app.circuits import layout as at
from app.circuits.figure import CircuitFigure
from tests.app.circuits.made_runs import committed, graph_of, make_run, plotly_of, rows_of
from workbench.core import Head
from workbench.errors import BadInput
from workbench.results.circuit import Circuit, Edge

#: Okabe & Ito (2008), without black.
OKABE_ITO = {"#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}


def test_lines_are_what_the_stages_measured_and_no_others() -> None:
    graph = graph_of(make_run("circuit-reuse", committed("circuit-reuse")))
    rows = [row for row in rows_of("circuit-reuse", "heads") if row["task"] == "ioi"]
    measured = {
        (graph.node(line.source).label, line.target): line.strength.value for line in graph.lines if line.measured
    }
    assert measured == {
        (row["head"], "logits" if row["stage"] == "logits" else f"joint/{row['stage']}"): float(row["mean_effect"])
        for row in rows
    }
    table = {row["stage"]: row["receivers"] for row in rows_of("circuit-reuse", "stages") if row["task"] == "ioi"}
    receivers = {name: set[str]() for name in table if name != "logits"}
    for line in graph.lines:
        if not line.measured:
            receivers[line.source.removeprefix("joint/")].add(graph.node(line.target).label)
            assert not line.strength.is_measured
    assert receivers == {stage: set(heads.split()) for stage, heads in table.items() if stage != "logits"}
    assert {node.text for node in graph.nodes if node.kind == "joint"} == {"Q", "V"}


def test_a_marker_for_each_head_and_role_and_receivers_that_are_not_in_the_circuit_apart() -> None:
    graph = graph_of(make_run("circuit-reuse", committed("circuit-reuse")))
    expected = {(r["head"], r["role"]) for r in rows_of("circuit-reuse", "heads") if r["task"] == "ioi"}
    assert {(n.label, n.role) for n in graph.nodes if n.kind == "head"} == expected
    assert ("17.4", "early sender") in expected and ("17.4", "value sender") in expected
    outside = {n.label for n in graph.nodes if n.kind == "receives"}
    assert outside and not outside & {head for head, role in expected if role in ("mover", "inhibition")}


def test_layers_go_upward_and_no_two_markers_coincide() -> None:
    graph = graph_of(make_run("circuit-reuse", committed("circuit-reuse")))
    layout = at.compute_layout(graph)
    heads = [(node.head.layer, layout.positions[node.key]) for node in graph.nodes if node.head is not None]
    assert len({place for _, place in heads}) == len(heads)
    for layer, (_, y) in heads:
        assert all((other > layer) == (above > y) for other, (_, above) in heads)
    assert layout.positions["logits"][1] > max(y for _, (_, y) in heads)
    upward = [at.line_ends(layout, line) for line in graph.lines if line.target == "logits"]
    assert all(start[0] == end[0] for start, end in upward) and len({x for (x, _), _ in upward}) == len(upward)


def test_every_layout_is_finite() -> None:
    for finding in ("circuit-reuse", "ioi-circuit", "faithfulness", "circuit-repair"):
        run = make_run(finding, committed(finding))
        for task in Circuit.all_from_run(run.path):
            positions = at.compute_layout(graph_of(run, task)).positions
            assert np.isfinite(np.array(list(positions.values()))).all()


def test_widths_follow_effects_and_roles_have_colours_of_their_own() -> None:
    graph = graph_of(make_run("circuit-reuse", committed("circuit-reuse")))
    strong = {abs(line.strength.value): at.line_width(graph, line) for line in graph.lines if line.measured}
    largest = max(strong)
    assert all(width == pytest.approx(max(1, 9 * value / largest)) for value, width in strong.items())
    colours = at.role_colours(graph)
    assert len(set(colours.values())) == len(colours) == 4 and set(colours.values()) <= OKABE_ITO
    figure = plotly_of(CircuitFigure(graph))
    symbols = {
        data[0] + "/" + trace.name: symbol
        for trace in figure.data
        if trace.name in ("inhibition", "mover", "negative mover")
        for data, symbol in zip(trace.customdata, trace.marker.symbol, strict=True)
    }
    assert symbols["20.0/inhibition"] == "circle"  # p = 0.0001
    assert symbols["19.2/inhibition"] == "circle-open"  # p = 1
    assert symbols["24.4/negative mover"] == "triangle-down" and symbols["23.3/mover"] == "circle"


def test_the_tooltip_has_interval_and_p_value() -> None:
    figure = plotly_of(CircuitFigure(graph_of(make_run("circuit-reuse", committed("circuit-reuse")))))
    texts = [
        data[1] for trace in figure.data if trace.name == "mover" for data in trace.customdata if data[0] == "23.3"
    ]
    assert texts == [
        "23.3: mover<br>heads → logits, from position end<br>effect 0.585 [0.524, 0.653], p = 0.0001<br>n = 20"
    ]


def test_a_run_that_lists_no_receivers_draws_none_but_those_that_follow_from_a_role() -> None:
    tables = committed("ioi-circuit")
    graph = graph_of(make_run("ioi-circuit", tables))
    assert all(line.measured for line in graph.lines) and from_run.NO_RECEIVERS in graph.note
    extra = tables["heads"].iloc[[0]].assign(stage="previous", layer=4, index=1, head="4.1", role="previous-token")
    graph = graph_of(make_run("ioi-circuit", tables | {"heads": pd.concat([tables["heads"], extra])}))
    dotted = [line for line in graph.lines if not line.measured]
    assert [(line.source, graph.node(line.target).label) for line in dotted] == [("joint/previous", "17.4")]
    assert graph.node("17.4/earlier").role == "induction"


def test_a_run_without_stages_draws_no_line_and_sizes_from_minimality() -> None:
    graph = graph_of(make_run("faithfulness", committed("faithfulness")))
    assert not graph.lines and from_run.NO_STAGES in graph.note and from_run.MINIMALITY in graph.note
    table = {(row["head"], row["role"]): float(row["share"]) for row in rows_of("faithfulness", "minimality")}
    assert {(n.label, n.role): n.strength.value for n in graph.nodes} == pytest.approx(table)
    largest = max(graph.nodes, key=lambda node: at.marker_size(graph, node))
    assert table[largest.label, largest.role] == max(table.values())


@pytest.mark.parametrize("name", ["effect", "mean_delta"])
def test_a_sweeps_run_sizes_from_its_largest_cell_of_each_head(name: str) -> None:
    rows = [(0, 1, 0, 0.2), (0, 1, 1, -0.9), (2, 0, 0, 0.5), (2, 0, 1, np.nan), (1, 1, 0, 3.0)]
    sweep = pd.DataFrame(rows, columns=["layer", "head_index", "step", name])
    low, high = ("effect_low", "effect_high") if name == "effect" else ("delta_low", "delta_high")
    other = {"effect": np.nan, "effect_low": np.nan, "effect_high": np.nan, "mean_delta": 7.0, "delta_low": 6.0}
    ends = {low: sweep[name] - 0.1, high: sweep[name] + 0.1}
    sweep = sweep.assign(**(other | {"delta_high": 8.0, name: sweep[name]} | ends), p_value=0.01, n=8)
    heads = pd.DataFrame({"task": "a", "stage": ["", ""], "layer": [0, 2], "index": [1, 0], "role": ["", ""]})
    names = sweep["layer"].astype(str) + "." + sweep["head_index"].astype(str)
    run = make_run("patch", {"sweep": sweep.assign(head=names), "heads": heads.assign(head=["0.1", "2.0"])})
    graph = graph_of(run, "a")
    assert {n.label: n.strength.value for n in graph.nodes} == {"0.1": -0.9, "2.0": 0.5}
    quantity = "largest effect" if name == "effect" else "largest mean change"
    assert graph.quantity == f"{quantity} in the sweep" and graph.quantity in graph.note
    assert f"{quantity} in the sweep −0.9 [−1, −0.8], p = 0.01" in graph.node("0.1/").hover
    of_keys = make_run("patch", {"sweep": sweep.assign(head="0.kv1"), "heads": heads.assign(head=["0.1", "2.0"])})
    assert from_run.NO_EFFECTS in graph_of(of_keys, "a").note


def test_a_run_without_effects_draws_all_alike() -> None:
    graph = graph_of(make_run("circuit-repair", committed("circuit-repair")))
    assert from_run.NO_EFFECTS in graph.note
    assert {at.line_width(graph, line) for line in graph.lines} == {1.6}
    assert {line.target for line in graph.lines} == {"logits", "joint/mover-query"}


def test_edges_of_a_run_or_a_file_are_drawn_from_head_to_head() -> None:
    edges = pd.DataFrame(
        [("ioi", "20.0", "23.3", "q"), ("ioi", "23.3", "logits", "")], columns=["task", "sender", "receiver", "into"]
    )
    graph = graph_of(make_run("circuit-repair", committed("circuit-repair") | {"edges": edges}))
    assert [(line.source, line.target, line.into) for line in graph.lines] == [
        ("20.0/inhibition", "23.3/", "q"),
        ("23.3/", "logits", ""),
    ]
    assert graph.node("23.3/").kind == "receives" and "23.3/" in at.compute_layout(graph).positions
    circuit = Circuit("x", "tiny", ((Head(0, 1), "a"), (Head(1, 0), "b")), (Edge(Head(0, 1), Head(1, 0), "v"),))
    assert [line.into for line in from_run.graph_of_circuit(circuit).lines] == ["v"]


def test_a_circuit_that_is_too_large_is_not_drawn() -> None:
    heads = tuple((Head(i, 0), "a") for i in range(from_run.MAX_MARKERS + 1))
    with pytest.raises(BadInput, match="the limit is 300"):
        from_run.graph_of_circuit(Circuit("x", "tiny", heads))
