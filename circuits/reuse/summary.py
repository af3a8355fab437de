"""The report of ``circuit-reuse`` in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbench import statistics
from workbench.core import Head

from ..gate import Gate
from ..stage_names import STAGES, role_of
from ..stages import Stages
from .tables import RESAMPLES, STABLE, circuit_sets, coinciding
from .verdict import Decision, Group

#: Heads named for each stage in the text; the tables have all.
NAMED = 4


def in_words(
    *,
    model: str,
    question: str,
    n: int,
    percent: float,
    shape: tuple[int, int],
    gates: Sequence[Gate],
    stages: Mapping[str, Stages],
    tasks: pd.DataFrame,
    ablated: pd.DataFrame,
    overlaps: pd.DataFrame,
    decision: Decision,
    more: Sequence[str] = (),
) -> str:
    """The whole summary."""
    total = shape[0] * shape[1]
    kept = statistics.top_count(percent, total)
    lines = [
        f"{question}",
        f"Model {model}: {shape[0]} layers of {shape[1]} heads. n = {n} prompts a task. A stage keeps the top "
        f"{percent:g} % = {kept} heads by |mean effect|; as many that work for the answer receive in the next.",
    ]
    if same := coinciding(total):
        lines.append(f"On a model of this size some shares are the same heads: {same}.")
    lines += [
        "",
        "Which tasks the model does (accuracy among the options; corrupt − clean logit difference; 95 % intervals)",
    ]
    lines += [_gate_line(gate) for gate in gates]
    if stages:
        lines += [
            "",
            "Strongest heads of each stage (effect: 0 = clean run, 1 = corrupt run; a minus works against the answer)",
        ]
        lines += [line for found in stages.values() for line in _stage_lines(found, percent)]
    if len(overlaps):
        lines += [
            "",
            "Heads that two tasks share (Jaccard index, 95 % interval given the receivers; null: layer-matched heads)",
        ]
        lines += [_pair_line(row) for row in overlaps.to_dict("records")]
    known = [row for row in tasks.to_dict("records") if row["stages"]]
    if known:
        lines += [
            "",
            "What a task shares with itself (two random halves of its prompts, the receivers chosen anew in each; mean "
            f"of all pairs of {RESAMPLES} resamples of its prompts, given the receivers: {STABLE} is called stable)",
        ]
        lines += [_itself_line(row) for row in known]
    if len(ablated):
        lines += [
            "",
            "What ablating a circuit takes from a task (share of its logit difference [95 % interval]; random heads of "
            "the same layers in brackets; heads set to their means at every position)",
        ]
        lines += [_damage_line(task, rows) for task, rows in ablated.groupby("ablated", sort=False)]
        lines.append(_own_and_others(ablated))
    lines += ["", _group_line("Near", decision.near), _group_line("Distant", decision.distant)]
    lines.append(
        f"{len(decision.beyond)} of {decision.near.pairs} near pairs lie above their null's 95th percentile, "
        f"{len(decision.surely)} with their whole interval."
    )
    lines += ["", *more] if more else []
    lines += ["", f"{decision.verdict.capitalize()}: {decision.reason}."]
    return "\n".join(lines)


def _itself_line(row: Mapping[Any, Any]) -> str:
    halves = f"{row['split_half']:.2f}, n = {row['n_half']} a half" if row["n_half"] else "too few prompts"
    return f"  {row['task']:<24} halves {halves}; resamples {row['bootstrap_jaccard']:.2f}" + (
        ", stable" if row["stable"] else ""
    )


def _damage_line(task: object, rows: pd.DataFrame) -> str:
    found = []
    for row in rows.sort_values("damage", ascending=False, kind="stable").to_dict("records"):
        control = f" ({row['random']:.2f})" if "random" in row else ""
        found.append(f"{row['measured']} {row['damage']:.2f} [{row['low']:.2f}, {row['high']:.2f}]{control}")
    return f"  {task}, {rows['heads'].iloc[0]} heads: " + "; ".join(found)


def _own_and_others(ablated: pd.DataFrame) -> str:
    own = ablated["ablated"] == ablated["measured"]
    quantity = "beyond_random" if "beyond_random" in ablated else "damage"
    name = "Damage beyond random heads" if quantity == "beyond_random" else "Damage"
    apart = f", {ablated[quantity][~own].mean():.2f} to the others" if len(set(own)) > 1 else ""
    return f"  {name}, mean: {ablated[quantity][own].mean():.2f} to a circuit's own task{apart}."


def _gate_line(gate: Gate) -> str:
    if not gate.n:
        return f"  {gate.task:<24} {gate.status}: {gate.reason}"
    line = (
        f"  {gate.task:<24} {gate.accuracy:.2f} [{gate.accuracy_low:.2f}, {gate.accuracy_high:.2f}], "
        f"chance {gate.chance:.2f};  {gate.gap:+.2f} [{gate.gap_low:+.2f}, {gate.gap_high:+.2f}]"
    )
    return line if gate.passed else f"{line}  {gate.status}: {gate.reason}"


def _stage_lines(found: Stages, percent: float) -> list[str]:
    lines = [f"  {found.task}"]
    for name, heads in circuit_sets(found, percent).items():
        stage = found.done[name]
        by_role: dict[str, list[Head]] = {}
        for head in heads[:NAMED]:
            by_role.setdefault(role_of(name, float(stage.effect[head.layer, head.index])), []).append(head)
        shown = "; ".join(
            f"{role} "
            + ", ".join(
                f"{h} ({stage.effect[h.layer, h.index]:+.2f}, p {_p(stage.sweep.p_value[h.layer, h.index])})"
                for h in mine
            )
            for role, mine in by_role.items()
        )
        lines.append(f"    {STAGES[name]}, at {stage.position}: {shown or 'no sender'}")
    lines += [f"    {STAGES[name]}: {why}" for name, why in found.left_out.items()]
    return lines


def _pair_line(row: Mapping) -> str:
    pair = f"  {row['pair']:<8}{row['task_a']} with {row['task_b']}"
    if not np.isfinite(row["jaccard"]):
        return f"{pair}: no stage in common"
    return (
        f"{pair}: {row['shared']} of {row['union']} = {row['jaccard']:.2f} [{row['low']:.2f}, {row['high']:.2f}]; "
        f"null {row['null']:.2f}, 95 % below {row['null_95']:.2f}; p {_p(row['p_value'])}"
    )


def _group_line(name: str, group: Group) -> str:
    if not group.pairs:
        return f"{name} pairs: none."
    return f"{name} pairs ({group.pairs}): mean overlap {group.mean:.2f} [{group.low:.2f}, {group.high:.2f}]."


def _p(p: float) -> str:
    return "–" if not np.isfinite(p) else "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
