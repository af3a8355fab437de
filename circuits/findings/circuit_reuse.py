"""Do related tasks use the same attention heads?

The study of Merullo, Eickhoff & Pavlick (ICLR 2024, arXiv 2310.08744), as a procedure for any model and any tasks:
select the tasks that the model can do (`workbench.findings.gate`), run four stages of path patching on each
(`circuits.stages`), take the top heads of every stage, and measure the overlap of each pair of tasks, compared with
layer-matched random circuits and with a bootstrap interval over prompts (`circuits.overlap`). Near and distant pairs
are declared in `circuits.reuse.verdict`, with the verdict's rule.

Then every circuit is ablated and every task measured (`circuits.ablation`), with random heads of the same layers as the
control: overlap shows that heads are shared, ablation whether they matter.

Tables: ``overlap`` (one row per pair), ``overlap_percent`` (the same at 1, 2, 5 and 10 %), ``overlap_stage``,
``cross_ablation``, ``tasks``, ``stages``, ``heads``, ``summary``; for a model with published heads ``published_heads``
and ``published_overlaps``.
"""

from __future__ import annotations

import pandas as pd

from workbench import statistics
from workbench.findings import Finding, Report, Study

from .. import overlap, published
from ..reuse import figures, summary, tables
from ..reuse.measure import measure_tasks
from ..reuse.verdict import DISTANT, IOI, RELATIVES, TASKS, THRESHOLDS, decide, on_part, pairs_of


def run(study: Study) -> Report:
    """Settings: n: prompts a task. seed: of the draw. percent: the share of heads that are a stage's circuit, and that
    become receivers. tasks: names of tasks. random_sets: random sets of heads beside each ablated circuit."""
    n, seed, percent = study.n, study.seed, study.settings["percent"]
    measured = measure_tasks(study)
    stages, gates = measured.stages, list(measured.gates.values())
    pairs = pairs_of(list(stages))
    at_each = {share: tables.overlaps(stages, pairs, share, seed) for share in sorted({percent, *tables.BESIDE})}
    overlaps = at_each[percent]
    scores = {task: whole.scores for task, whole in stages.items()}
    resampled = overlap.bootstrap_jaccard(scores, percent, pairs, seed=seed)
    decision = on_part(decide(overlaps.to_dict("records"), resampled), study.settings["tasks"])
    tasks = tables.tasks(gates, stages, measured.halves, percent, seed)
    known = published.of_model(study.model_name)
    frames = {
        "overlap": overlaps,
        "overlap_percent": pd.concat(at_each.values(), ignore_index=True),
        "overlap_stage": tables.overlaps_of_each_stage(stages, pairs, percent),
        "cross_ablation": measured.ablated,
        "tasks": tasks,
        "heads": tables.heads(stages, percent),
        "stages": tables.senders(stages, known["batch"] if known else None),
        "summary": tables.summary(decision, gates, n, percent),
    }
    beside = [f"Published heads exist for {', '.join(published.models())} only, not for {study.model_name}."]
    if known:
        size = statistics.top_count(percent, study.model.n_layers * study.model.n_heads)
        frames["published_heads"] = published.heads_beside(known, stages, size)
        frames["published_overlaps"] = published.overlaps_beside(known, overlaps)
        beside = list(published.in_words(frames["published_heads"], frames["published_overlaps"], known))
    text = {"model": study.model_name, "n": n, "percent": percent}
    charts = {}
    if len(stages) > 1:
        split_half = dict(zip(tasks["task"], tasks["split_half"], strict=True))
        charts["overlap"] = figures.matrix(overlaps, list(stages), split_half, **text)
        charts["overlap-pairs"] = figures.bars(overlaps, **text)
    if len(measured.ablated):
        charts["cross-ablation"] = figures.damage(measured.ablated, list(stages), **text)
    lines = summary.in_words(
        percent=percent,
        shape=(study.model.n_layers, study.model.n_heads),
        gates=gates,
        stages=stages,
        tasks=tasks,
        ablated=measured.ablated,
        overlaps=overlaps,
        decision=decision,
    )
    done = [stage for whole in stages.values() for stage in whole.done.values()]
    return study.report(
        decision.judgement,
        [*lines, "", *beside],
        tables=frames,
        charts={**charts, **measured.charts},
        data=measured.pairs,
        facts={"stages": {f"{stage.task} {stage.name}": dict(stage.sweep.info) for stage in done}},
    )


finding = Finding(
    name="circuit-reuse",
    title="Circuit reuse across tasks",
    question="Are the attention heads that a model uses for one task the heads that it uses for a related one?",
    claim=(
        f"Tasks of the IOI family ({IOI}, {', '.join(RELATIVES)}) share more of their heads with each other than "
        f"layer-matched random circuits do, and more than they share with distant tasks ({', '.join(DISTANT)})."
    ),
    thresholds=THRESHOLDS,
    run=run,
    # 20 prompts a task: the default tasks on the default model took 5 to 9 minutes on two cores.
    defaults={"n": 20, "seed": 0, "tasks": TASKS, "percent": tables.MAIN, "random_sets": 5},
    full={"random_sets": 25},
    source="Merullo, Eickhoff & Pavlick, ICLR 2024, arXiv 2310.08744",
    results_version=2,  # the random sets beside each circuit are different ones
)
