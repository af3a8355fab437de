"""The heads that stand out in a stage of path patching, each with the role that its attention and output give it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

import workbench as wb
from workbench.findings import Study, head_columns
from workbench.head_scores.on_task import task_scores
from workbench.inputs.paired import PairedInputs
from workbench.models.precision import at_least_float32
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import resolve_model
from workbench.plotting.charts import Heatmap
from workbench.results.sweep import Sweep

from ..stages import STEPS, Stages, Step, patched
from .roles import ROLES, Described, attention, has_role, uniform

P_VALUE, UNEXPLAINED = 0.05, "unexplained"
#: The stage into the induction heads' keys.
PREVIOUS = Step("previous", "k", "earlier")


def describe_heads(study: Study, pairs: PairedInputs, stages: Stages, percent: float) -> list[Described]:
    """Every head among the top `percent` % of a stage whose p-value is below `P_VALUE`, with its role."""
    copies = task_scores(study.model, Recorder(resolve_model(study.model)), pairs)
    heads = []
    for step in STEPS:
        if step.name in stages.done:
            stage = stages.done[step.name]
            heads += _of_stage(study.model, pairs, step.name, stage.sweep, stage.effect, percent, copies)
    receivers = tuple(sorted({d.head for d in heads if d.role == "induction" and d.head.layer > 0}))
    if receivers:
        progress = study.step(f"path patching on {pairs.name}: previous")
        sweep = patched(study.model, pairs, PREVIOUS, receivers, "S1+1", progress)
        effect = sweep.mean_delta / np.asarray(sweep.gap).mean()
        heads += _of_stage(study.model, pairs, PREVIOUS.name, sweep, effect, percent, copies)
    return heads


def _of_stage(
    model: Any, pairs: PairedInputs, stage: str, sweep: Sweep, effect: np.ndarray, percent: float, copies: Any
) -> list[Described]:
    heads = [head for head in sweep.top(percent=percent) if sweep.p_value[head.layer, head.index] < P_VALUE]
    layers = sorted({head.layer for head in heads})
    if not layers:
        return []
    record = wb.record(model, pairs, ["pattern"], layers)
    patterns = [at_least_float32(pattern).numpy() for pattern in record.clean["pattern"]]
    places = {(role.source, target) for role in ROLES for target in (*role.targets, *role.rivals)}
    result = []
    for head in heads:
        at = (head.layer, head.index)
        own = [pattern[layers.index(head.layer), head.index] for pattern in patterns]
        attended = {(source, target): attention(own, pairs, source, target) for source, target in places}
        written = (float(copies.read_out[at]), float(copies.read_out_negative[at]))
        role = next(
            (
                role.name
                for role in ROLES
                if role.stage == stage
                and has_role(role, float(effect[at]), attended, uniform(pairs, role.source), *written)
            ),
            UNEXPLAINED,
        )
        means = {
            place: float(np.nanmean(values)) if np.isfinite(values).any() else np.nan
            for place, values in attended.items()
        }
        result.append(Described(head, role, stage, float(effect[at]), float(sweep.p_value[at]), means, *written))
    return result


def heads_table(heads: list[Described], task: str, n: int) -> pd.DataFrame:
    """A row a head and stage: role, effect, p-value, copy scores, and the attention between the named positions."""
    return pd.DataFrame(
        {"task": task, "stage": d.stage}
        | head_columns(d.head)
        | {"role": d.role, "effect": d.effect, "p_value": d.p_value, "copies": d.copies, "suppresses": d.suppresses}
        | {f"{source} to {target}": value for (source, target), value in sorted(d.attention.items())}
        | {"n": n}
        for d in heads
    )


def in_words(heads: list[Described]) -> list[str]:
    """Lines of the summary, one a role."""
    title = (
        "Heads that stand out in a stage (p below 0.05), by role (effect; attention to the role's place; copy score)"
    )
    lines = ["", title]
    for role in (*(role.name for role in ROLES), UNEXPLAINED):
        lines.append(f"  {role:<19} " + (", ".join(_head(d) for d in heads if d.role == role) or "none"))
    return lines


def chart(heads: list[Described], title: str) -> Heatmap:
    """What each head attends to."""
    columns = sorted(heads[0].attention)
    return Heatmap(
        np.array([[d.attention[column] for column in columns] for d in heads]),
        [f"{source} → {target}" for source, target in columns],
        [f"{d.head} {d.role} ({d.stage})" for d in heads],
        title=title,
        subtitle="heads significant in a stage of path patching, with the roles that their behaviour gives them",
        scale="mean attention weight",
        x_title="attending → attended",
        y_title="head, role (stage)",
        diverging=False,
        show_values=True,
        note="Grey: no value, because the attended position comes after the attending one.",
    )


def roles_by_head(heads: list[Described]) -> Mapping[str, str]:
    """Head → its role in the first stage in which it stands out."""
    return {str(d.head): d.role for d in reversed(heads)}


def _head(described: Described) -> str:
    role = next((role for role in ROLES if role.name == described.role), None)
    parts = [f"{described.effect:+z.2f}"]
    if role is not None:
        attended = sum(described.attention[role.source, target] for target in role.targets)
        parts.append(f"{role.source} → {'+'.join(role.targets)} {attended:.2f}")
        parts += [f"copies {described.copies:.2f}"] if role.writes == 1 else []
        parts += [f"suppresses {described.suppresses:.2f}"] if role.writes == -1 else []
    return f"{described.head} ({'; '.join(parts)})"
