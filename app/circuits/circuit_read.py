"""From a run, or from a saved circuit, to the graph: who was found to write to whom, and how strongly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from app.circuits.circuit_graph import LOGITS, CircuitGraph, Line, Node, Strength
from app.circuits.circuit_layout import base_role
from app.circuits.circuit_tables import columns, has_effects, heads_of, rows_where
from circuits.stage_names import STAGES
from workbench.core import Head
from workbench.errors import BadInput
from workbench.results.circuit import Circuit, Edge

if TYPE_CHECKING:
    import pandas as pd

    from workbench.runs.run import Run

#: A graph of more markers or lines is not readable, and slow.
MOST = 300


@dataclass(frozen=True)
class Stage:
    """What is known of a stage of path patching: into which input of the heads of which lane, and its place."""

    into: str
    receivers: str | None
    lane: str
    words: str


#: From left to right. Value senders stand right of the movers, so that their lines cross no others.
STEPS: Mapping[str, Stage] = {
    "previous": Stage("k", "earlier", "→ induction heads' keys", "heads → keys of the induction heads"),
    "earlier": Stage("v", "mover-query", "→ inhibition heads' values", STAGES["earlier"]),
    "mover-query": Stage("q", LOGITS, "→ movers' queries", STAGES["mover-query"]),
    LOGITS: Stage("", None, "→ logits", STAGES[LOGITS]),
    "mover-value": Stage("v", LOGITS, "→ movers' values", STAGES["mover-value"]),
}
#: Stages whose receivers are the heads of one role: those of ``ioi-circuit`` into the induction heads.
RECEIVING_ROLE = {"previous": "induction"}
#: What a strength is: of path patching, or of ``faithfulness``.
EFFECT, LOSS = "effect", "loss without it"
PATCHED = (
    "Effect: the mean change of the metric when the sender's corrupt output reaches the receivers along its direct "
    "paths, over mean(corrupt − clean). 0: nothing happens, 1: as the corrupt run. Above 0 the head works for the "
    "answer, below 0 (triangle, dashed) against it. p is corrected for the number of heads; hollow: p > 0.05."
)
JOINT = (
    "A sender was measured on all receivers of its stage together: its line ends where theirs begin (Q, K or V), and "
    "it reaches those of higher layers only. The dotted lines carry no value of their own."
)
NO_RECEIVERS = "The tables of this run do not list the receivers."
EDGES = "Lines: the edges that the run lists, which have no values."
NO_STAGES = "The tables of this run do not say who writes to whom: no line is drawn."
NO_EFFECTS = "They hold no effects either: all markers and lines are alike."
MINIMALITY = (
    "Size: how much of the whole model's logit difference the circuit loses without the head, at the most (table "
    "minimality, 95 % interval over prompts)."
)
ROWS = "Layers without a marker are left out."


def of_run(
    run: Run, circuit: Circuit, chosen: Head | None = None, published: Mapping[Head, str] | None = None
) -> CircuitGraph:
    """The graph of one of the run's circuits.

    Args:
        chosen: the head that gets a ring.
        published: what heads were called where this circuit was published.

    Raises:
        BadInput: a table is not as the findings write it, or the circuit is too large to be drawn.
    """
    heads, quantity = heads_of(run, circuit), EFFECT if has_effects(run) else LOSS
    staged = bool(set(heads["stage"]) & set(STEPS)) and not circuit.edges
    if staged:
        nodes, lines, lanes, notes = _patched(heads, _receiving(run, circuit))
    else:
        alone: dict[str, Node] = {}
        for row in heads.to_dict("records"):
            node = _node(row, base_role(row["role"]), row["role"], quantity)
            alone.setdefault(node.key, node)
        nodes, lines = _edged(list(alone.values()), circuit.edges)
        lanes, notes = _lanes_of_roles(nodes), [EDGES if lines else NO_STAGES]
    called = {head: (f"published as {name}",) for head, name in (published or {}).items()}
    nodes = [replace(n, about=(*n.about, *called.get(n.head, ()))) if n.head else n for n in nodes]
    effects = any(node.strength.known for node in nodes)
    if not effects:
        notes.append(NO_EFFECTS)
    elif quantity == LOSS:
        notes.append(MINIMALITY)
    else:
        notes.insert(0, PATCHED)
    return _graph(
        nodes,
        lines,
        lanes,
        title=f"Circuit of {circuit.name}",
        subtitle=_subtitle(run, circuit, heads),
        columns="stage of path patching: where the heads write" if staged else "role",
        quantity=quantity,
        note=" ".join([*notes, ROWS]),
        chosen=chosen,
    )


def of_circuit(circuit: Circuit, chosen: Head | None = None, source: str = "saved circuit") -> CircuitGraph:
    """The graph of a circuit alone: its heads by role, and its edges, without effects."""
    heads = [
        Node(f"{head}/{role}", "head", base_role(role), head, role, about=(f"{head}: {role or 'no role'}",))
        for head, role in circuit.heads
    ]
    nodes, lines = _edged(heads, circuit.edges)
    lanes = _lanes_of_roles(nodes)
    note = "Lines: the edges of the circuit." if lines else "The circuit has no edges: no line is drawn."
    return _graph(
        nodes,
        lines,
        lanes,
        title=f"Circuit of {circuit.name}",
        subtitle=f"{circuit.model} · {source}",
        note=f"{note} It says nothing of effects. {ROWS}",
        chosen=chosen,
    )


@dataclass(frozen=True)
class _Receiving:
    """From the table ``stages``: stage → who received, and the effects of all heads that it lists."""

    heads: Mapping[str, tuple[Head, ...]]
    strengths: Mapping[tuple[str, Head], Strength]
    positions: Mapping[str, str]


def _receiving(run: Run, circuit: Circuit) -> _Receiving:
    if "stages" not in run.table_names:
        return _Receiving({}, {}, {})
    numbers = ["mean_effect", "effect_low", "effect_high", "p_value"]
    frame = columns(run, "stages", ["task", "stage", "layer", "index", "position", "receivers"], numbers)
    heads: dict[str, tuple[Head, ...]] = {}
    strengths, positions = {}, {}
    for row in rows_where(frame, "task", circuit.name):
        stage, receivers = str(row["stage"]), str(row["receivers"])
        head = Head.parse(f"{row['layer']}.{row['index']}")
        strengths[stage, head] = Strength(row["mean_effect"], row["effect_low"], row["effect_high"], row["p_value"])
        positions[stage] = str(row["position"])
        if receivers != LOGITS:
            heads[stage] = tuple(Head.parse(text) for text in receivers.split())
    return _Receiving(heads, strengths, positions)


def _patched(heads: pd.DataFrame, receiving: _Receiving) -> tuple[list[Node], list[Line], dict[str, str], list[str]]:
    """Markers and lines of the stages of path patching."""
    nodes: dict[str, Node] = {}
    for row in heads.to_dict("records"):
        node = _node(row, row["stage"], row["stage"], EFFECT, receiving.positions)
        nodes[node.key] = node
    lines: list[Line] = []
    stages = [stage for stage in STEPS if stage in set(heads["stage"])]
    unlisted = False
    for stage in stages:
        step = STEPS[stage]
        senders = [node for node in nodes.values() if node.lane == stage and node.kind == "head"]
        target = LOGITS if step.receivers is None else f"joint/{stage}"
        lines += [Line(node.key, target, step.into, node.strength) for node in senders]
        if step.receivers is None:
            nodes[LOGITS] = Node(LOGITS, "logits", stage, text=LOGITS)
            continue
        who = receiving.heads.get(stage, ())
        if not who and stage in RECEIVING_ROLE:
            role = RECEIVING_ROLE[stage]
            who = tuple(n.head for n in nodes.values() if n.role == role and n.head is not None and n.head.layer > 0)
        unlisted |= not who
        about = (f"{step.words}, together:", " ".join(map(str, sorted(who))) or NO_RECEIVERS)
        nodes[target] = Node(target, "joint", step.receivers, text=step.into.upper(), about=about)
        for head in who:
            node = next((n for n in nodes.values() if n.head == head and n.lane == step.receivers), None)
            node = node or _receiver(head, step.receivers, receiving)
            nodes[node.key] = node
            lines.append(Line(target, node.key, step.into, carries=False))
    others = {node.lane: node.lane for node in nodes.values() if node.lane not in STEPS}
    used = {node.lane for node in nodes.values() if node.head is not None}
    lanes = {stage: step.lane for stage, step in STEPS.items() if stage in used} | others
    notes = [JOINT] if any(STEPS[stage].receivers for stage in stages) else []
    return list(nodes.values()), lines, lanes, notes + [NO_RECEIVERS] * unlisted


def _receiver(head: Head, lane: str, receiving: _Receiving) -> Node:
    strength = receiving.strengths.get((lane, head), Strength())
    about = (f"{head}: receives, and is not among the strongest of its own stage", strength.words(EFFECT))
    return Node(f"{head}/{lane}", "receives", lane, head, strength=strength, about=tuple(filter(None, about)))


def _node(
    row: Mapping[Any, Any], lane: str, name: str, quantity: str, positions: Mapping[str, str] | None = None
) -> Node:
    head, role = Head(row["layer"], row["index"]), row["role"]
    strength = Strength(row["effect"], row["low"], row["high"], row["p"])
    step = STEPS.get(lane)
    at = (positions or {}).get(lane)
    where = "" if step is None else step.words + (f", from position {at}" if at else "")
    n = f"n = {row['n']:.0f}" if np.isfinite(row["n"]) else ""
    about = (f"{head}: {role}", where, strength.words(quantity), n)
    return Node(f"{head}/{name}", "head", lane, head, role, strength=strength, about=tuple(filter(None, about)))


def _edged(heads: Sequence[Node], edges: Iterable[Edge]) -> tuple[list[Node], list[Line]]:
    """The markers with those that only edges name, and a line for each edge, between the heads' first markers."""
    nodes = {node.key: node for node in heads}
    first = {node.head: node.key for node in reversed(list(heads)) if node.head is not None}
    lines = []
    for edge in edges:
        for head in (edge.sender, edge.receiver):
            if head is not None and head not in first:
                first[head] = f"{head}/"
                nodes[first[head]] = Node(first[head], "receives", "", head, about=(f"{head}: no role of its own",))
        if edge.receiver is None:
            nodes[LOGITS] = Node(LOGITS, "logits", "", text=LOGITS)
        target = LOGITS if edge.receiver is None else first[edge.receiver]
        lines.append(Line(first[edge.sender], target, edge.into))
    return list(nodes.values()), lines


def _lanes_of_roles(nodes: Iterable[Node]) -> dict[str, str]:
    """The roles without their signs, those of the lowest heads (on the average) first."""
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
    given = isinstance(config, dict) and config.get("circuit")  # it was handed to the finding, and not found by it
    percent = config.get("percent") if isinstance(config, dict) and not given else None
    parts.append("a given circuit" if given else "")
    parts.append(f"top {percent:g} % of each stage" if isinstance(percent, int | float) else "")
    return " · ".join(filter(None, parts))


def _graph(nodes: Sequence[Node], lines: Sequence[Line], lanes: dict[str, str], **words: Any) -> CircuitGraph:
    if len(nodes) > MOST or len(lines) > MOST:
        raise BadInput(
            f"{words['title']} has {len(nodes)} markers and {len(lines)} lines, and at most {MOST} of each are drawn: "
            "see the table."
        )
    return CircuitGraph(tuple(nodes), tuple(lines), lanes, **words)
