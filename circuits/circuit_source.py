"""Where a circuit comes from (a file, a run, the literature, path patching), and what its heads are ablated to."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import workbench as wb
from workbench.core import Head
from workbench.findings import NotJudged, Study, head_columns
from workbench.findings.study import REFERENCE
from workbench.inputs.paired import PairedInputs

from . import published
from .overlap import top_heads
from .stage_names import role_of
from .stages import Stages, stages_of

#: Role → heads.
Roles = dict[str, list[Head]]


def circuit_of(study: Study, source: str, task: str, pairs: PairedInputs, percent: float) -> Roles:
    """The heads of a circuit by their role.

    Args:
        source: a circuit file or run directory, ``"published"``, or nothing to find it by path patching on `pairs`.
        percent: the share of heads of each stage.
    """
    if source == "published":
        # Also where operators were swapped in: whether the circuit survives them is what is asked then.
        return dict(published.circuit(str(study.model.provenance.get("name")), task))
    if source:
        path = Path(source)
        circuit = wb.Circuit.from_run(path, task) if path.is_dir() else wb.Circuit.load(path)
        return {role: list(heads) for role, heads in circuit.roles.items()}
    return roles_of(stages_of(study, pairs, percent), percent)


def roles_of(stages: Stages, percent: float) -> Roles:
    """The top `percent` % heads of each stage, by the role that stage and sign give them."""
    roles: Roles = {}
    for stage, heads in circuit_sets(stages, percent).items():
        effect = stages.done[stage].effect
        for head in heads:
            roles.setdefault(role_of(stage, float(effect[head.layer, head.index])), []).append(head)
    return roles


def circuit_sets(stages: Stages, percent: float) -> dict[str, tuple[Head, ...]]:
    """The in-circuit heads of each stage."""
    return {name: top_heads(array, percent) for name, array in stages.scores.items()}


def heads_table(roles: Roles, task: str, n: int) -> pd.DataFrame:
    """The table ``heads`` of a circuit that was found on n prompts."""
    rows = [
        {"task": task, "stage": role, **head_columns(head), "role": role}
        for role, members in roles.items()
        for head in members
    ]
    return pd.DataFrame(rows).assign(n=n)


def unrelated(study: Study, pairs: PairedInputs) -> PairedInputs:
    """What means are taken over: the variant with unrelated names, if there is one, else the task's own prompts."""
    task = study.task(pairs.name, REFERENCE)
    if "abc" not in task.variants.get("corruption", {}):
        return study.reference(pairs)
    try:
        others = study.pairs(pairs.name, REFERENCE, corruption="abc").swapped()
    except NotJudged:
        return study.reference(pairs)
    lengths = {len(ids) for ids in others.clean}
    return others if all(len(ids) in lengths for ids in pairs.clean) else study.reference(pairs)
