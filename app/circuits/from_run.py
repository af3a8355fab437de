"""From a run, or from a saved circuit, to the graph: which heads write to which, and how strongly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from app.circuits.graph import LOGITS, CircuitGraph, Line, Node, Strength
from app.circuits.layout import base_role
from app.circuits.run_tables import (
    EFFECT,
    LARGEST_CHANGE,
    LARGEST_EFFECT,
    LOSS,
    heads_of,
    quantity_of,
    read_columns,
    rows_where,
)
from circuits.stage_names import STAGES
from workbench.core import Head
from workbench.errors import BadInput
from workbench.results.circuit import Circuit, Edge

if TYPE_CHECKING:
    import pandas as pd

    from workbench.runs.run import Run

#: A graph of more markers or lines is neither readable nor fast.
MAX_MARKERS = 300


@dataclass(frozen=True)
class StageLayout:
    """The layout of a stage of path patching.

    Attributes:
        into: the receivers' input (q, k or v); empty for the logits.
        receivers: the receivers' lane; None for the logits.
        lane: the name of the senders' lane.
        description: senders → receivers, in words.
    """

    into: str
    receivers: str | None
    lane: str
    description: str


#: From left to right. Value senders are right of the movers, so that their lines cross no others.
STAGE_LAYOUTS: Mapping[str, StageLayout] = {
    "previous": StageLayout("k", "earlier", "→ induction heads' keys", "heads → keys of the induction heads"),
    "earlier": StageLayout("v", "mover-query", "→ inhibition heads' values", STAGES["earlier"]),
    "mover-query": StageLayout("q", LOGITS, "→ movers' queries", STAGES["mover-query"]),
    LOGITS: StageLayout("", None, "→ logits", STAGES[LOGITS]),
    "mover-value": StageLayout("v", LOGITS, "→ movers' values", STAGES["mover-value"]),
}
#: Stages whose receivers are the heads of one role: those of ``ioi-circuit`` into the induction heads.
RECEIVING_ROLE = {"previous": "induction"}
PATCHED = (
    "Effect: the mean change of the metric when the sender’s corrupt output reaches the receivers along its direct "
    "paths, divided by mean(corrupt − clean). 0: no change, 1: as in the corrupt run. Above 0 the head supports the "
    "answer, below 0 (triangle, dashed) it opposes it. p is corrected for the number of heads; hollow marker: p > 0.05."
)
JOINT = (
    "A sender’s effect is measured on all receivers of its stage together: its line ends at Q, K or V, and dotted "
    "lines, which have no value, lead from there to the receivers. A sender reaches only receivers in higher layers."
)
NO_RECEIVERS = "This run’s tables do not list the receivers."
EDGES = "Lines: the run’s edges, which have no values."
NO_STAGES = "No lines: this run’s tables do not say which heads write to which."
NO_EFFECTS = "This run’s tables give no effects of the heads, so all markers have the same size."
ONLY_ROLES = "Only heads and their roles are given, no effects, so all markers have the same size."
MINIMALITY = (
    "Marker size: the largest share of the whole model’s logit difference that the circuit loses without the head "
    "(table minimality, 95 % interval over prompts)."
)
IN_SWEEP = (
    "Marker size: the head’s {quantity}, over all its cells (table sweep, 95 % interval over the inputs). A "
    "triangle is below 0."
)
ROWS = "Layers without a marker are left out."


def graph_of_run(
    run: Run, circuit: Circuit, selected: Head | None = None, published: Mapping[Head, str] | None = None
) -> CircuitGraph:
    """The graph of one of the run's circuits.

    Args:
        selected: the head with a ring.
        published: the roles of heads in the published circuit.

    Raises:
        BadInput: a table is not as the findings write it, or the circuit is too large for a graph.
    """
    heads, quantity = heads_of(run, circuit), quantity_of(run)
    staged = bool(set(heads["stage"]) & set(STAGE_LAYOUTS)) and not circuit.edges
    if staged:
        nodes, lines, lanes, notes = _path_patching_graph(heads, _read_receivers(run, circuit))
    else:
        by_key: dict[str, Node] = {}
        for row in heads.to_dict("records"):
            node = _node(row, base_role(row["role"]), row["role"], quantity)
            by_key.setdefault(node.key, node)
        nodes, lines = _graph_with_edges(list(by_key.values()), circuit.edges)
        lanes, notes = _role_lanes(nodes), [EDGES if lines else NO_STAGES]
    published_names = {head: (f"published as {name}",) for head, name in (published or {}).items()}
    nodes = [replace(n, hover=(*n.hover, *published_names.get(n.head, ()))) if n.head else n for n in nodes]
    effects = any(node.strength.is_measured for node in nodes)
    if not effects:
        notes.append(NO_EFFECTS)
    elif quantity == LOSS:
        notes.append(MINIMALITY)
    elif quantity in (LARGEST_EFFECT, LARGEST_CHANGE):
        notes.append(IN_SWEEP.format(quantity=quantity))
    else:
        notes.insert(0, PATCHED)
    return _graph(
        nodes,
        lines,
        lanes,
        title=f"Circuit of {circuit.name}",
        subtitle=_subtitle(run, circuit, heads),
        columns="path-patching stage (where the heads write)" if staged else "role",
        quantity=quantity,
        note=" ".join([*notes, ROWS]),
        selected=selected,
    )


def graph_of_circuit(circuit: Circuit, selected: Head | None = None, source: str = "saved circuit") -> CircuitGraph:
    """The graph of a circuit alone: its heads by role, and its edges, without effects."""
    heads = [
        Node(f"{head}/{role}", "head", base_role(role), head, role, hover=(f"{head}: {role or 'no role'}",))
        for head, role in circuit.heads
    ]
    nodes, lines = _graph_with_edges(heads, circuit.edges)
    lanes = _role_lanes(nodes)
    note = "Lines: the edges of the circuit." if lines else "No lines: the circuit has no edges."
    return _graph(
        nodes,
        lines,
        lanes,
        title=f"Circuit of {circuit.name}",
        subtitle=f"{circuit.model} · {source}",
        note=f"{note} {ONLY_ROLES} {ROWS}",
        selected=selected,
    )


@dataclass(frozen=True)
class _Receivers:
    """The table ``stages``: stage → receivers, the effects of all heads, and stage → the senders' position."""

    heads: Mapping[str, tuple[Head, ...]]
    strengths: Mapping[tuple[str, Head], Strength]
    positions: Mapping[str, str]


def _read_receivers(run: Run, circuit: Circuit) -> _Receivers:
    if "stages" not in run.table_names:
        return _Receivers({}, {}, {})
    numbers = ["mean_effect", "effect_low", "effect_high", "p_value"]
    frame = read_columns(run, "stages", ["task", "stage", "layer", "index", "position", "receivers"], numbers)
    heads: dict[str, tuple[Head, ...]] = {}
    strengths, positions = {}, {}
    for row in rows_where(frame, "task", circuit.name):
        stage, receivers = str(row["stage"]), str(row["receivers"])
        head = Head.parse(f"{row['layer']}.{row['index']}")
        strengths[stage, head] = Strength(row["mean_effect"], row["effect_low"], row["effect_high"], row["p_value"])
        positions[stage] = str(row["position"])
        if receivers != LOGITS:
            heads[stage] = tuple(Head.parse(text) for text in receivers.split())
    return _Receivers(heads, strengths, positions)


def _path_patching_graph(
    heads: pd.DataFrame, table: _Receivers
) -> tuple[list[Node], list[Line], dict[str, str], list[str]]:
    """Markers, lines, lanes and notes of the stages of path patching."""
    nodes: dict[str, Node] = {}
    for row in heads.to_dict("records"):
        node = _node(row, row["stage"], row["stage"], EFFECT, table.positions)
        nodes[node.key] = node
    lines: list[Line] = []
    stages = [stage for stage in STAGE_LAYOUTS if stage in set(heads["stage"])]
    unlisted = False
    for stage in stages:
        step = STAGE_LAYOUTS[stage]
        senders = [node for node in nodes.values() if node.lane == stage and node.kind == "head"]
        target = LOGITS if step.receivers is None else f"joint/{stage}"
        lines += [Line(node.key, target, step.into, node.strength) for node in senders]
        if step.receivers is None:
            nodes[LOGITS] = Node(LOGITS, "logits", stage, text=LOGITS)
            continue
        receivers = table.heads.get(stage, ())
        if not receivers and stage in RECEIVING_ROLE:
            role = RECEIVING_ROLE[stage]
            receivers = tuple(
                n.head for n in nodes.values() if n.role == role and n.head is not None and n.head.layer > 0
            )
        unlisted |= not receivers
        hover = (f"{step.description}, together:", " ".join(map(str, sorted(receivers))) or NO_RECEIVERS)
        nodes[target] = Node(target, "joint", step.receivers, text=step.into.upper(), hover=hover)
        for head in receivers:
            node = next((n for n in nodes.values() if n.head == head and n.lane == step.receivers), None)
            node = node or _receiver(head, step.receivers, table)
            nodes[node.key] = node
            lines.append(Line(target, node.key, step.into, measured=False))
    others = {node.lane: node.lane for node in nodes.values() if node.lane not in STAGE_LAYOUTS}
    used = {node.lane for node in nodes.values() if node.head is not None}
    lanes = {stage: step.lane for stage, step in STAGE_LAYOUTS.items() if stage in used} | others
    notes = [JOINT] if any(STAGE_LAYOUTS[stage].receivers for stage in stages) else []
    return list(nodes.values()), lines, lanes, notes + [NO_RECEIVERS] * unlisted


def _receiver(head: Head, lane: str, table: _Receivers) -> Node:
    strength = table.strengths.get((lane, head), Strength())
    hover = (f"{head}: a receiver, not among the strongest senders of its own stage", strength.describe(EFFECT))
    return Node(f"{head}/{lane}", "receives", lane, head, strength=strength, hover=tuple(filter(None, hover)))


def _node(
    row: Mapping[Any, Any], lane: str, name: str, quantity: str, positions: Mapping[str, str] | None = None
) -> Node:
    head, role = Head(row["layer"], row["index"]), row["role"]
    strength = Strength(row["effect"], row["low"], row["high"], row["p"])
    step = STAGE_LAYOUTS.get(lane)
    at = (positions or {}).get(lane)
    stage = "" if step is None else step.description + (f", from position {at}" if at else "")
    n = f"n = {row['n']:.0f}" if np.isfinite(row["n"]) else ""
    hover = (f"{head}: {role}", stage, strength.describe(quantity), n)
    return Node(f"{head}/{name}", "head", lane, head, role, strength=strength, hover=tuple(filter(None, hover)))


def _graph_with_edges(heads: Sequence[Node], edges: Iterable[Edge]) -> tuple[list[Node], list[Line]]:
    """The markers, more for heads that only edges name, and a line for each edge between the heads' first markers."""
    nodes = {node.key: node for node in heads}
    first = {node.head: node.key for node in reversed(list(heads)) if node.head is not None}
    lines = []
    for edge in edges:
        for head in (edge.sender, edge.receiver):
            if head is not None and head not in first:
                first[head] = f"{head}/"
                nodes[first[head]] = Node(first[head], "receives", "", head, hover=(f"{head}: no role",))
        if edge.receiver is None:
            nodes[LOGITS] = Node(LOGITS, "logits", "", text=LOGITS)
        target = LOGITS if edge.receiver is None else first[edge.receiver]
        lines.append(Line(first[edge.sender], target, edge.into))
    return list(nodes.values()), lines


def _role_lanes(nodes: Iterable[Node]) -> dict[str, str]:
    """The roles without their signs, by the mean layer of their heads."""
    layers: dict[str, list[int]] = {}
    for node in nodes:
        if node.head is not None:
            layers.setdefault(node.lane, []).append(node.head.layer)
    ordered = sorted(layers, key=lambda lane: (float(np.mean(layers[lane])), lane))
    return {lane: lane or "no role" for lane in ordered}


def _subtitle(run: Run, circuit: Circuit, heads: pd.DataFrame) -> str:
    n = [value for value in heads["n"] if np.isfinite(value)]
    parts = [circuit.model, str(run.facts.get("finding") or "run"), f"n = {n[0]:.0f}" if n else ""]
    config = run.facts.get("config")
    is_input = isinstance(config, dict) and config.get("circuit")  # an input of the finding, not a result
    percent = config.get("percent") if isinstance(config, dict) and not is_input else None
    parts.append("circuit from a file" if is_input else "")
    parts.append(f"top {percent:g} % of heads per stage" if isinstance(percent, int | float) else "")
    return " · ".join(filter(None, parts))


def _graph(nodes: Sequence[Node], lines: Sequence[Line], lanes: dict[str, str], **options: Any) -> CircuitGraph:
    if len(nodes) > MAX_MARKERS or len(lines) > MAX_MARKERS:
        raise BadInput(
            f"{options['title']}: {len(nodes)} markers and {len(lines)} lines, and the limit is {MAX_MARKERS} of each. "
            "See the table."
        )
    return CircuitGraph(tuple(nodes), tuple(lines), lanes, **options)
