"""The measurements of ``circuit-reuse``: every task's gate, stages and split halves, and the cross-ablation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from workbench.errors import BadInput, UsageError
from workbench.findings import Study
from workbench.findings.gate import Gate, gate, no_inputs
from workbench.findings.study import Rendered
from workbench.findings.task_pairs import tokenize
from workbench.inputs.paired import PairedInputs

from .. import overlap
from ..ablation import cross_ablation
from ..circuit_source import circuit_sets
from ..split_half import Halves, split_halves
from ..stages import Stage, Stages, run_stages
from .meter import ABLATION, ANEW, GATE, Meter


@dataclass(frozen=True)
class Measured:
    """By task, in the order of the setting ``tasks``: its prompts and gate; of tasks that the model does also its
    stages and those of two halves of its prompts; what each task loses when each circuit is ablated; and each stage's
    chart by its name."""

    pairs: Mapping[str, PairedInputs]
    gates: Mapping[str, Gate]
    stages: Mapping[str, Stages]
    halves: Mapping[str, Halves | None]
    ablated: pd.DataFrame
    charts: Mapping[str, Rendered]


def measure_tasks(study: Study) -> Measured:
    """Measure every task of the setting ``tasks``; each stage's figure is published as soon as it is ready."""
    model, percent = study.model, study.settings["percent"]
    tasks = {name: study.task(name, study.n) for name in dict.fromkeys(study.settings["tasks"])}
    pairs: dict[str, PairedInputs] = {}
    gates: dict[str, Gate] = {}
    for name, task in tasks.items():
        try:
            pairs[name] = tokenize(model, task)
        except (BadInput, UsageError) as error:
            gates[name] = no_inputs(name, task.relation, str(error))
    meter = Meter(study, tasks, pairs)
    stages: dict[str, Stages] = {}
    halves: dict[str, Halves | None] = {}
    charts: dict[str, Rendered] = {}

    def ready(stage: Stage) -> None:
        name = f"stage-{stage.task}-{stage.name}"
        charts[name] = study.publish(name, stage.sweep)

    for name, inputs in pairs.items():
        positions = tasks[name].stages
        gates[name] = gate(model, inputs, tasks[name].relation, progress=meter.of(name, GATE))
        if gates[name].passed:
            whole = run_stages(model, inputs, positions, percent, progress=meter.stages(name), ready=ready)
            anew = meter.stages(name, ANEW)
            halves[name] = split_halves(model, inputs, positions, percent, whole, study.seed, progress=anew)
            stages[name] = whole
        meter.finished(name)
    ablated = _cross_ablation(study, pairs, stages, meter)
    return Measured(pairs, {name: gates[name] for name in tasks}, stages, halves, ablated, charts)


def _cross_ablation(
    study: Study, pairs: Mapping[str, PairedInputs], stages: Mapping[str, Stages], meter: Meter
) -> pd.DataFrame:
    percent = study.settings["percent"]
    result = cross_ablation(
        study.model,
        {task: pairs[task] for task in stages},
        {task: study.reference(pairs[task]) for task in stages},
        {task: overlap.union_of_stages(circuit_sets(whole, percent)) for task, whole in stages.items()},
        random_sets=study.settings["random_sets"],
        seed=study.seed,
        progress=lambda task, prompts: meter.of(task, ABLATION)(prompts),
    )
    meter.all_finished()
    return result
