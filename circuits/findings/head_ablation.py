"""Which heads does a task need, and do three ways of ablating a head agree?

Every head is ablated alone at every position: its z is set to zero, to its mean (per named position, or else per index
among prompts of the same length), or to its value in another prompt of the same length. The heads are ranked by how far
the metric drops on one set of prompts. On another set, heads are then ablated together: those that matter most first,
those that matter least first, and in random orders.

Tables: ``heads_ablated`` (one row per head: the change under each ablation, with interval and p-value), ``agreement``
(rank correlation of each pair of ablations), ``curve`` (what is left after ablating the first k heads of an order),
``summary``.
"""

from __future__ import annotations

import workbench as wb
from workbench.findings import Finding, NotJudged, Report, Study, Threshold, judge, summary_table
from workbench.findings.task_pairs import sharing_a_length

from ..ablation_curve import ablation_curve
from ..ablations import KINDS, agreement_table, heads_table, heatmap, in_words, rank_agreement

#: Heads in the timing beforehand.
PROBE = 1


def run(study: Study) -> Report:
    """Settings: task: its name. n: prompts that heads are ranked on, and as many others for the curve. seed: of the
    draws. points: steps of the curve. random_orders: random orders beside the two."""
    model, settings, n = study.model, study.settings, study.n
    pairs = study.pairs(settings["task"], 2 * n)
    gate = study.gate(pairs)
    ranking, test = sharing_a_length(pairs.of(range(n))), pairs.of(range(n, 2 * n))
    if not len(ranking):
        raise NotJudged("no two prompts have one length, so that none can be resampled")
    reference = study.reference(pairs)

    # One head of the first batch is timed: edits at every position cost more than a patch at one.
    part = ranking.of(ranking.groups(8)[0].members)
    heads_by_prompts = model.n_heads * len(KINDS) * len(ranking)
    study.announce(
        "three ablations of every head (the curve takes half as long again)",
        lambda: wb.sweep(model, part, edit="zero", heads=list(range(PROBE)), cache=False),
        times=heads_by_prompts / (PROBE * len(part)),
    )
    sweeps = {
        kind: wb.sweep(
            model,
            ranking,
            edit=kind,
            mean_over=reference if kind == "mean" else None,
            seed=study.seed,
            progress=study.step(f"{kind} ablation of every head"),
        )
        for kind in KINDS
    }
    agreement = rank_agreement(sweeps)
    curve = ablation_curve(study, test, reference, sweeps["mean"], settings["points"], settings["random_orders"])
    return study.report(
        judge(finding.thresholds, area=curve.area, agreement=list(agreement.values())),
        [
            f"{settings['task']}: accuracy among the options {gate.accuracy:.2f}, logit difference {gate.base:z.2f}.",
            f"Heads are ranked on n = {len(ranking)} prompts, the curve is measured on n = {len(test)} others.",
            *in_words(sweeps, agreement),
            *curve.in_words(),
        ],
        tables={
            "heads_ablated": heads_table(sweeps),
            "agreement": agreement_table(sweeps, agreement),
            "curve": curve.table,
            "summary": summary_table({"area between the curves": curve.area}, len(test)),
        },
        charts={
            "ablations": heatmap(sweeps, f"Head ablation · {study.model_name} · {settings['task']}"),
            "curve": curve.chart(f"Ablating heads together · {study.model_name} · {settings['task']}"),
        },
        data={"ranked_on": ranking, "measured": test},
    )


finding = Finding(
    name="head-ablation",
    title="Ablating every head three ways",
    question="Which heads does the task need, and do zero, mean and resample ablation agree?",
    claim=(
        "The heads that one set of prompts ranks as relevant matter on another: ablating them first takes away more "
        "than ablating the least relevant ones first, and the three ablations rank heads alike."
    ),
    thresholds={
        "area": Threshold("area between the least-first and the most-first curve (share of the metric)", above=0),
        "agreement": Threshold("rank correlation of every two ablations", above=0.5, refuted_by="nothing"),
    },
    run=run,
    defaults={"task": "ioi", "n": 25, "seed": 0, "points": 10, "random_orders": 3},
    full={"n": 50, "points": 16, "random_orders": 10},
    source="Michel, Levy & Neubig, NeurIPS 2019, arXiv 1905.10650; Wang et al., ICLR 2023, arXiv 2211.00593",
)
