"""The report of ``circuit-reuse`` in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbench import statistics
from workbench.findings import Quantity
from workbench.findings.gate import Gate
from workbench.plotting.quantity import distinguishing_spec, number

from ..circuit_source import circuit_sets
from ..stage_names import STAGES, role_of
from ..stages import Stages
from .tables import RESAMPLES, STABLE, coinciding
from .verdict import Decision, Group

#: Heads named for each stage in the text; the tables have all.
NAMED = 4


def in_words(
    *,
    percent: float,
    shape: tuple[int, int],
    gates: Sequence[Gate],
    stages: Mapping[str, Stages],
    tasks: pd.DataFrame,
    ablated: pd.DataFrame,
    overlaps: pd.DataFrame,
    decision: Decision,
) -> list[str]:
    """The lines between the heading and the verdict."""
    total = shape[0] * shape[1]
    size = statistics.top_count(percent, total)
    lines = [
        f"{shape[0]} layers of {shape[1]} heads, n prompts for each task. The circuit of a stage is the top "
        f"{percent:g} % = {size} heads by |mean effect|; as many that work for the answer receive in the next stage.",
    ]
    if same := coinciding(total):
        lines.append(f"On a model of this size some shares are the same heads: {same}.")
    lines += [
        "",
        "Which tasks the model does (accuracy among the options; corrupt − clean logit difference; 95 % intervals)",
        *map(_gate_line, gates),
    ]
    if stages:
        lines += [
            "",
            "Strongest heads of each stage (effect: 0 = clean run, 1 = corrupt run; a minus works against the answer)",
            *(line for whole in stages.values() for line in _stage_lines(whole, percent)),
        ]
    if len(overlaps):
        lines += [
            "",
            "Heads that two tasks share (Jaccard index, 95 % interval given the receivers; null: layer-matched heads)",
            *map(_pair_line, overlaps.to_dict("records")),
        ]
    if with_stages := [row for row in tasks.to_dict("records") if row["stages"]]:
        lines += [
            "",
            "What a task shares with itself (two random halves of its prompts, the receivers chosen anew in each; mean "
            f"of all pairs of {RESAMPLES} resamples of its prompts, given the receivers: {STABLE} is called stable)",
            *map(_itself_line, with_stages),
        ]
    if len(ablated):
        lines += [
            "",
            "What ablating a circuit takes from a task (share of its logit difference [95 % interval]; random heads of "
            "the same layers in brackets; heads set to their means at every position)",
            *(_damage_line(task, rows) for task, rows in ablated.groupby("ablated", sort=False)),
            _own_and_others(ablated),
        ]
    lines += ["", _group_line("Near", decision.near), _group_line("Distant", decision.distant)]
    lines.append(
        f"{len(decision.beyond)} of {decision.near.pairs} near pairs lie above their null's 95th percentile, "
        f"{len(decision.surely)} with their whole interval."
    )
    return lines


def _itself_line(row: Mapping[Any, Any]) -> str:
    halves = f"{row['split_half']:.2f}, n = {row['n_half']} a half" if row["n_half"] else "too few prompts"
    return f"  {row['task']:<24} halves {halves}; resamples {row['bootstrap_jaccard']:.2f}" + (
        ", stable" if row["stable"] else ""
    )


def _damage_line(task: object, rows: pd.DataFrame) -> str:
    damages = []
    for row in rows.sort_values("damage", ascending=False, kind="stable").to_dict("records"):
        control = f" ({number(row['random'])})" if "random" in row else ""
        damages.append(f"{row['measured']} {Quantity(row['damage'], row['low'], row['high'])}{control}")
    return f"  {task}, {rows['heads'].iloc[0]} heads: " + "; ".join(damages)


def _own_and_others(ablated: pd.DataFrame) -> str:
    own = ablated["ablated"] == ablated["measured"]
    quantity = "beyond_random" if "beyond_random" in ablated else "damage"
    name = "Damage beyond random heads" if quantity == "beyond_random" else "Damage"
    apart = f", {ablated[quantity][~own].mean():z.2f} to the others" if len(set(own)) > 1 else ""
    return f"  {name}, mean: {ablated[quantity][own].mean():z.2f} to a circuit's own task{apart}."


def _gate_line(gate: Gate) -> str:
    if not gate.n:
        return f"  {gate.task:<24} {gate.status}: {gate.reason}"
    accuracy = Quantity(gate.accuracy, gate.accuracy_low, gate.accuracy_high)
    spec = distinguishing_spec("", (accuracy.low, gate.chance)) if gate.passed else ""
    line = (
        f"  {gate.task:<24} {accuracy:{spec}}, chance {number(gate.chance, spec)};  "
        f"{Quantity(gate.gap, gate.gap_low, gate.gap_high):+.2f}"
    )
    return line if gate.passed else f"{line}  {gate.status}: {gate.reason}"


def _stage_lines(stages: Stages, percent: float) -> list[str]:
    lines = [f"  {stages.task}"]
    for name, heads in circuit_sets(stages, percent).items():
        stage = stages.done[name]
        by_role: dict[str, list[str]] = {}
        for head in heads[:NAMED]:
            effect, p_value = (array[head.layer, head.index] for array in (stage.effect, stage.sweep.p_value))
            by_role.setdefault(role_of(name, float(effect)), []).append(f"{head} ({effect:+z.2f}, p {_p(p_value)})")
        listed = "; ".join(f"{role} {', '.join(members)}" for role, members in by_role.items())
        lines.append(f"    {STAGES[name]}, at {stage.position}: {listed or 'no sender'}")
    return lines + [f"    {STAGES[name]}: {reason}" for name, reason in stages.left_out.items()]


def _pair_line(row: Mapping) -> str:
    pair = f"  {row['pair']:<8}{row['task_a']} with {row['task_b']}"
    if not np.isfinite(row["jaccard"]):
        return f"{pair}: no stage in common"
    overlap, beyond = Quantity(row["jaccard"], row["low"], row["high"]), row["null_95"]
    spec = distinguishing_spec("", *((share, beyond) for share in (overlap.value, overlap.low) if share > beyond))
    return (
        f"{pair}: {row['shared']} of {row['union']} = {overlap:{spec}}; "
        f"null {number(row['null'], spec)}, 95 % below {number(beyond, spec)}; p {_p(row['p_value'])}"
    )


def _group_line(name: str, group: Group) -> str:
    if not group.pairs:
        return f"{name} pairs: none."
    return f"{name} pairs ({group.pairs}): mean overlap {group.overlap}."


def _p(p: float) -> str:
    return "–" if not np.isfinite(p) else "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
