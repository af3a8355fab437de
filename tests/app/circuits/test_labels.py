"""The labels of a circuit's graph, each with room of its own."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from app.circuits import layout as at
from app.circuits import plotly_figure
from tests.app.circuits.made_runs import committed, graph_of, make_run


def test_labels_on_one_side_are_never_close_in_a_row() -> None:
    graph = graph_of(make_run("circuit-reuse", committed("circuit-reuse")))
    layout = at.compute_layout(graph)
    above = at.labels_above(graph, layout)
    assert above
    heads = [node.key for node in graph.nodes if node.head is not None]
    for side in ([key for key in heads if key in above], [key for key in heads if key not in above]):
        places = sorted(layout.positions[key][::-1] for key in side)
        rows = pairwise(places)
        assert all(y != other or after - x >= at.CLOSE for (y, x), (other, after) in rows)


def test_every_head_is_named_once() -> None:
    graph = graph_of(make_run("circuit-reuse", committed("circuit-reuse")))
    traces: Any = plotly_figure.plotly_figure(graph).data
    texts = [text for trace in traces if trace.text for text in trace.text]
    heads = [node.label for node in graph.nodes if node.head is not None]
    assert sorted(text for text in texts if "." in text) == sorted(heads)
