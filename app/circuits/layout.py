"""Positions, colours and sizes of a circuit's graph, the same for the page and for the downloads.

Layers go upward, one row for each layer with a marker; lanes go from left to right, and the heads of one lane and layer
are side by side.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from app.circuits.graph import ALPHA, LOGITS, CircuitGraph, Line, Node

#: The colour-blind safe colours of Okabe & Ito (2008), without black, which is invisible on a dark page.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#F0E442")
OTHER, DARK = "#8A8A8A", "#666666"
NEGATIVE = "negative "
UNEXPLAINED = "unexplained"
#: Role → index of its own colour, which it has unless another role of the circuit has it.
_OWN = {
    "mover": 0,
    "inhibition": 1,
    "induction": 2,
    "early sender": 2,
    "value sender": 3,
    "duplicate-token": 4,
    "duplicate token": 4,
    "subject suppressor": 5,
    "backup mover": 5,
    "previous-token": 6,
    "previous token": 6,
}
#: Between two lanes, in marker widths.
GAP = 1.0
#: Between two columns of a lane with a column per marker.
COLUMN = 0.75
#: Labels of closer markers in a row would touch on a phone.
CLOSE = 1.5


@dataclass(frozen=True)
class Layout:
    """Positions of everything.

    Attributes:
        positions: of each marker, as (marker widths, rows).
        rows: the layers, from below; the logits are above.
        centres: of each lane.
        width: of all lanes.
    """

    positions: dict[str, tuple[float, float]]
    rows: list[int]
    centres: dict[str, float]
    width: float

    @property
    def height(self) -> int:
        """Rows, with the logits'."""
        return len(self.rows) + 1


def compute_layout(graph: CircuitGraph) -> Layout:
    """The positions of all markers.

    Lines to the logits are vertical, so in lanes with such lines every marker has a column of its own. A joint is
    between the lane of its senders and that of its receivers, below the lowest receiver.
    """
    rows = sorted({node.head.layer for node in graph.nodes if node.head is not None})
    row = {layer: float(i) for i, layer in enumerate(rows)}
    upward = {graph.node(line.source).lane for line in graph.lines if line.target == LOGITS}
    positions: dict[str, tuple[float, float]] = {}
    edges: dict[str, tuple[float, float]] = {}
    left = 0.0
    for lane in graph.lanes:
        nodes_by_layer: dict[int, list[Node]] = defaultdict(list)
        for node in sorted((n for n in graph.nodes if n.lane == lane and n.head is not None), key=_order):
            nodes_by_layer[node.head.layer if node.head else 0].append(node)
        columns = _own_columns(nodes_by_layer) if lane in upward else _side_by_side(nodes_by_layer)
        width = max(columns.values(), default=0.0) + 1
        edges[lane] = (left, left + width)
        for layer, nodes in nodes_by_layer.items():
            positions |= {node.key: (left + 0.5 + columns[node.key], row[layer]) for node in nodes}
        left += width + GAP
    centres = {lane: sum(ends) / 2 for lane, ends in edges.items()}
    total = max(left - GAP, 1.0)
    for node in graph.nodes:
        if node.kind == "logits":
            positions[node.key] = (total / 2, float(len(rows)))
    for node in graph.nodes:
        if node.kind == "joint":
            positions[node.key] = _joint_position(graph, node, positions, edges)
    return Layout(positions, rows, centres, total)


def _order(node: Node) -> tuple[int, str]:
    return (node.head.index if node.head else 0, node.role)


def _side_by_side(nodes_by_layer: dict[int, list[Node]]) -> dict[str, float]:
    """The markers of each layer, centred in the lane."""
    most = max(map(len, nodes_by_layer.values()), default=1)
    return {node.key: i + (most - len(nodes)) / 2 for nodes in nodes_by_layer.values() for i, node in enumerate(nodes)}


def _own_columns(nodes_by_layer: dict[int, list[Node]]) -> dict[str, float]:
    """A column for each marker, those of one layer far apart."""
    shares = [((i + 0.5) / len(nodes), node.key) for nodes in nodes_by_layer.values() for i, node in enumerate(nodes)]
    return {key: COLUMN * i for i, (_, key) in enumerate(sorted(shares))}


def line_ends(layout: Layout, line: Line) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where a line starts and ends."""
    start, end = layout.positions[line.source], layout.positions[line.target]
    return start, (start[0], end[1]) if line.target == LOGITS else end


def labels_above(graph: CircuitGraph, layout: Layout) -> set[str]:
    """The markers with their label above instead of below: of close ones in a row, every second."""
    raised: set[str] = set()
    heads = [node.key for node in graph.nodes if node.head is not None]
    in_rows = sorted(heads, key=lambda key: layout.positions[key][::-1])
    for before, key in pairwise(in_rows):
        (x0, y0), (x, y) = layout.positions[before], layout.positions[key]
        if y == y0 and x - x0 < CLOSE and before not in raised:
            raised.add(key)
    return raised


def logits_bar(graph: CircuitGraph, layout: Layout) -> tuple[float, float]:
    """Left and right end of the bar of the logits: over all heads that write to them."""
    xs = [layout.positions[line.source][0] for line in graph.lines if line.target == LOGITS]
    return min(xs) - 0.4, max(xs) + 0.4


def _joint_position(
    graph: CircuitGraph,
    joint: Node,
    positions: dict[str, tuple[float, float]],
    edges: dict[str, tuple[float, float]],
) -> tuple[float, float]:
    senders = [positions[line.source] for line in graph.lines if line.target == joint.key]
    receivers = [positions[line.target] for line in graph.lines if line.source == joint.key]
    if not receivers and joint.lane in edges:
        receivers = [positions[n.key] for n in graph.nodes if n.lane == joint.lane and n.kind == "head"]
    y = min(y for _, y in receivers) - 0.5 if receivers else max((y for _, y in senders), default=0.0) + 0.5
    from_x = float(np.mean([x for x, _ in senders])) if senders else 0.0
    if joint.lane not in edges:
        return from_x, y
    left, right = edges[joint.lane]
    return (left - GAP / 2 if from_x < (left + right) / 2 else right + GAP / 2), y


def base_role(role: str) -> str:
    """The role without its sign."""
    return role.removeprefix(NEGATIVE)


def role_colours(graph: CircuitGraph) -> dict[str, str]:
    """Role (without its sign) → colour: its own where that is free, else the next free one, else one is used twice."""
    roles = dict.fromkeys(base_role(node.role) for node in graph.nodes if node.kind == "head")
    used: dict[str, str] = {UNEXPLAINED: OTHER}
    for role in sorted(roles, key=lambda role: (role not in _OWN, role)):
        if role in used:
            continue
        free = [c for c in COLOURS if c not in used.values()]
        own = COLOURS[_OWN[role]] if role in _OWN else None
        used[role] = own if own in free else (free[0] if free else COLOURS[len(used) % len(COLOURS)])
    return {role: used[role] for role in roles}


def is_negative(node: Node) -> bool:
    """Whether the head opposes the answer: its marker is a triangle that points down, its line dashed."""
    return node.role.startswith(NEGATIVE) or (node.strength.is_measured and node.strength.value < 0)


def is_hollow(node: Node) -> bool:
    """Whether its effect is not significant: p above `ALPHA`."""
    return bool(np.isfinite(node.strength.p) and node.strength.p > ALPHA)


def _relative(graph: CircuitGraph, value: float, of: str) -> float:
    values = [n.strength.value for n in graph.nodes] if of == "nodes" else [n.strength.value for n in graph.lines]
    top = max((abs(v) for v in values if np.isfinite(v)), default=1.0) or 1.0
    return min(abs(value) / top, 1.0)


def line_width(graph: CircuitGraph, line: Line) -> float:
    """A line's width in points: proportional to |effect|, with a visible minimum."""
    if not line.measured:
        return 0.8
    return max(1.0, 9 * _relative(graph, line.strength.value, "lines")) if line.strength.is_measured else 1.6


def marker_size(graph: CircuitGraph, node: Node) -> float:
    """A marker's width in points: its area grows with |effect|."""
    if node.kind == "receives":
        return 9.0
    return 9 + 13 * _relative(graph, node.strength.value, "nodes") ** 0.5 if node.strength.is_measured else 14.0


def row_names(graph: CircuitGraph, layout: Layout) -> tuple[list[int], list[str]]:
    """Positions and names of the rows."""
    names = [*map(str, layout.rows)] + [LOGITS] * any(node.kind == "logits" for node in graph.nodes)
    return list(range(len(names))), names
