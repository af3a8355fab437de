"""Do related tasks use the same attention heads?

The study of Merullo, Eickhoff & Pavlick (ICLR 2024, arXiv 2310.08744), as a procedure for any model and any tasks:
the tasks that the model does (`circuits.gate`), four stages of path patching each (`circuits.stages`), the top heads of
every stage, and what each pair of tasks shares, beside layer-matched random circuits and a bootstrap interval over
prompts (`circuits.overlap`). Near and distant pairs are declared in `circuits.reuse.verdict`, with the verdict's rule.

Then every circuit is ablated and every task measured (`circuits.ablation`), beside random heads of the same layers: an
overlap says that heads are shared, an ablation whether they matter.

Tables: ``overlap`` (a row for each pair), ``overlap_percent`` (the same at 1, 2, 5 and 10 %), ``overlap_stage``,
``cross_ablation``, ``tasks``, ``stages``, ``heads``, ``summary``; for a model with published heads ``published_heads``
and ``published_overlaps``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

import workbench as wb
from workbench import statistics
from workbench.errors import BadInput, UsageError
from workbench.findings import Finding, Progress, Report
from workbench.inputs.paired import PairedInputs
from workbench.inputs.pairs import Task

from .. import overlap, published
from ..ablation import cross_ablation
from ..gate import Gate, gate, no_inputs
from ..reuse import figures, summary, tables
from ..reuse.verdict import DISTANT, IOI, RELATIVES, TASKS, decide, on_part, pairs_of
from ..split_half import Halves, split_halves
from ..stages import Stage, Stages, run_stages, work
from ..task_pairs import asked, fingerprint, reference

QUESTION = "Are the attention heads that a model uses for one task the heads that it uses for a related one?"

#: Prompts a task: the default tasks on the default model took 5 to 9 minutes on two cores.
N = 20
#: The work of asking one token of one prompt, in the units of `circuits.stages.work`: a layer row each.
_FORWARDS = 2
#: After a stage's name: the same stage in the two halves.
ANEW = ", anew"
ABLATION = "ablation"


def run(model: Any, settings: dict[str, Any], progress: Progress) -> Report:
    """Run the study.

    Settings:
        n: prompts a task. seed: of the draw. percent: the share of heads a stage keeps, and that become receivers.
        tasks: names of tasks. random_sets: random sets of heads beside each ablated circuit.
    """
    settings = finding.settings(settings)
    n, seed, percent = settings["n"], settings["seed"], settings["percent"]
    chosen = [wb.task(name, n=n, seed=seed) for name in dict.fromkeys(settings["tasks"])]
    name = str(model.provenance.get("name"))
    known = published.of_model(name)
    inputs, gates = _inputs(model, chosen)
    meter = _Meter(progress, model, {t.name: t for t in chosen}, inputs, settings["random_sets"])
    found: dict[str, Stages] = {}
    halves: dict[str, Halves | None] = {}
    drawn: dict[str, figures.Both] = {}

    def ready(stage: Stage) -> None:
        key = f"stage-{stage.task}-{stage.name}"
        drawn[key] = (stage.sweep.figure(), stage.sweep.picture())
        progress.early(key, figure=drawn[key][0], picture=drawn[key][1])

    for task in chosen:
        if task.name not in inputs:
            continue
        given = inputs[task.name]
        gates[task.name] = gate(model, given, task.relation, progress=meter.of(task.name, "gate"))
        if gates[task.name].passed:
            tell = meter.stage(task.name)
            whole = run_stages(model, given, task.stages, percent, progress=tell, ready=ready)
            anew = meter.stage(task.name, ANEW)
            halves[task.name] = split_halves(model, given, task.stages, percent, whole, seed, progress=anew)
            found[task.name] = whole
        meter.finished(task.name)
    ablated = _ablated(model, chosen, inputs, found, settings, meter)
    listed = [gates[t.name] for t in chosen]
    return _report(model, name, settings, listed, found, halves, ablated, inputs, known, drawn)


def _ablated(
    model: Any,
    tasks: list[Task],
    inputs: Mapping[str, PairedInputs],
    found: Mapping[str, Stages],
    settings: Mapping[str, Any],
    meter: _Meter,
) -> pd.DataFrame:
    """The cross-ablation matrix of the tasks that the model does."""
    circuits = {t: overlap.union_of_stages(tables.circuit_sets(s, settings["percent"])) for t, s in found.items()}
    measured = {task: inputs[task] for task in found}
    references = {task.name: reference(model, task, inputs[task.name]) for task in tasks if task.name in found}
    result = cross_ablation(
        model,
        measured,
        references,
        circuits,
        random_sets=settings["random_sets"],
        seed=settings["seed"],
        progress=lambda task, prompts: meter.of(task, ABLATION)(prompts),
    )
    meter.all_finished()
    return result


def _inputs(model: Any, tasks: list[Task]) -> tuple[dict[str, PairedInputs], dict[str, Gate]]:
    """The tokenised prompts of each task that can be asked, and the gate's entry of each that cannot."""
    inputs: dict[str, PairedInputs] = {}
    gates: dict[str, Gate] = {}
    for task in tasks:
        try:
            inputs[task.name] = asked(model, task)
        except (BadInput, UsageError) as error:
            gates[task.name] = no_inputs(task.name, task.relation, str(error))
    return inputs, gates


def _report(
    model: Any,
    name: str,
    settings: Mapping[str, Any],
    gates: list[Gate],
    found: dict[str, Stages],
    halves: Mapping[str, Halves | None],
    ablated: pd.DataFrame,
    inputs: Mapping[str, PairedInputs],
    known: Mapping[str, Any] | None,
    drawn: Mapping[str, figures.Both],
) -> Report:
    n, seed, percent = settings["n"], settings["seed"], settings["percent"]
    pairs = pairs_of(list(found))
    scores = {task: stages.scores for task, stages in found.items()}
    at_each = {k: tables.overlaps(found, pairs, k, seed) for k in sorted({percent, *tables.BESIDE})}
    overlaps = at_each[percent]
    decision = decide(overlaps.to_dict("records"), overlap.bootstrap_jaccard(scores, percent, pairs, seed=seed))
    decision = on_part(decision, settings["tasks"])
    tasks = tables.tasks(gates, found, halves, percent, seed)
    frames = {
        "overlap": overlaps,
        "overlap_percent": pd.concat(at_each.values(), ignore_index=True),
        "overlap_stage": tables.overlaps_of_each_stage(found, pairs, percent),
        "cross_ablation": ablated,
        "tasks": tasks,
        "heads": tables.heads(found, percent),
        "stages": tables.stages(found, known["batch"] if known else None),
        "summary": tables.summary(decision, gates, n, percent),
    }
    more = [f"Published heads exist for {', '.join(published.models())} only: none are shown beside {name}."]
    if known:
        kept = statistics.top_count(percent, model.n_layers * model.n_heads)
        frames["published_heads"] = published.heads_beside(known, found, kept)
        frames["published_overlaps"] = published.overlaps_beside(known, overlaps)
        more = list(published.in_words(frames["published_heads"], frames["published_overlaps"], known))
    words: dict[str, Any] = {"model": name, "n": n, "percent": percent}
    both: dict[str, figures.Both] = {}
    if len(found) > 1:
        itself = dict(zip(tasks["task"], tasks["split_half"], strict=True))
        both["overlap"] = figures.matrix(overlaps, list(found), itself, **words)
        both["overlap-pairs"] = figures.bars(overlaps, **words)
    if len(ablated):
        both["cross-ablation"] = figures.damage(ablated, list(found), **words)
    both |= drawn
    infos = {f"{s.task} {s.name}": dict(s.sweep.info) for stages in found.values() for s in stages.done.values()}
    return Report(
        verdict=decision.verdict,
        summary=summary.in_words(
            question=QUESTION,
            shape=(model.n_layers, model.n_heads),
            gates=gates,
            stages=found,
            tasks=tasks,
            ablated=ablated,
            overlaps=overlaps,
            decision=decision,
            more=more,
            **words,
        ),
        tables=frames,
        figures={key: figure for key, (figure, _) in both.items()},
        pictures={key: picture for key, (_, picture) in both.items()},
        facts={"data": {task: fingerprint(given) for task, given in inputs.items()}, "stages": infos},
    )


class _Meter:
    """One measure of progress over all tasks, so that the time left is that of the whole report."""

    def __init__(
        self,
        progress: Progress,
        model: Any,
        tasks: Mapping[str, Task],
        inputs: Mapping[str, PairedInputs],
        random_sets: int,
    ) -> None:
        self.progress, self.n = progress, {name: len(given) for name, given in inputs.items()}
        self.parts: dict[tuple[str, str], int] = {}
        for name, given in inputs.items():
            self.parts[name, "gate"] = _FORWARDS * model.n_layers * sum(map(len, given.clean))
            for stage, size in work(given, tasks[name].stages, model.n_layers, model.n_heads).items():
                self.parts |= {(name, stage): size, (name, stage + ANEW): size}
            sets = len(inputs) * (1 + random_sets)
            self.parts[name, ABLATION] = sets * model.n_layers * sum(map(len, given.clean))
        self.done = dict.fromkeys(self.parts, 0)
        self.title = f"circuit-reuse, {len(tasks)} tasks"

    def of(self, task: str, part: str) -> Callable[[int], None]:
        def tell(examples: int) -> None:
            self.done[task, part] = self.parts[task, part] * examples // self.n[task]
            self._tell()

        return tell

    def stage(self, task: str, again: str = "") -> Callable[[str, int], None]:
        return lambda stage, examples: self.of(task, stage + again)(examples)

    def finished(self, task: str) -> None:
        """Whatever of a task's own circuit was not run will not be."""
        self.done |= {key: size for key, size in self.parts.items() if key[0] == task and key[1] != ABLATION}
        self._tell()

    def all_finished(self) -> None:
        self.done = dict(self.parts)
        self._tell()

    def _tell(self) -> None:
        self.progress(sum(self.done.values()), sum(self.parts.values()), self.title)


finding = Finding(
    name="circuit-reuse",
    title="Circuit reuse across tasks",
    question=QUESTION,
    claim=(
        f"Tasks of the IOI family ({IOI}, {', '.join(RELATIVES)}) share more of their heads with each other than "
        f"layer-matched random circuits do, and more than they share with distant tasks ({', '.join(DISTANT)})."
    ),
    thresholds={
        "near pairs whose whole 95 % interval lies above the 95th percentile of their layer-matched null, at least": 1,
        "lower end of the near pairs' mean overlap, above": "the upper end of the distant pairs' mean overlap",
    },
    run=run,
    defaults={"n": N, "seed": 0, "tasks": TASKS, "percent": tables.MAIN, "random_sets": 5},
    full={"random_sets": 25},
    source="Merullo, Eickhoff & Pavlick, ICLR 2024, arXiv 2310.08744",
)
