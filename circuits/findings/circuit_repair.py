"""Does editing a few heads that were found on one task repair another task?

The repair of Merullo, Eickhoff & Pavlick (ICLR 2024, arXiv 2310.08744, section 5), as a procedure for any model. The
inhibition heads and negative movers are found on IOI by path patching. On Colored Objects, the attention row of each of
these heads at the last position is replaced: 1/2 on each of the two wrong colours of the question and 0 elsewhere, so
that the heads inhibit the wrong colours. Everything else runs freely.

Controls: random heads of the same layers with the same rows; the same heads forced onto the right colour; the same
heads forced onto random tokens of the question; each head alone. Tables: ``accuracy`` (one row per set of edits),
``movers`` (what each mover of IOI attends to before and after), ``heads``, ``summary``.
"""

from __future__ import annotations

import pandas as pd

import workbench as wb
from workbench.findings import (
    Finding,
    NotJudged,
    Quantity,
    Report,
    Study,
    Threshold,
    head_columns,
    judge,
    summary_table,
)

from .. import published, repair
from ..stages import stages_of

FROM, TO = "ioi", "colored-objects"


def run(study: Study) -> Report:
    """Settings: n: prompts of Colored Objects. n_circuit: prompts of IOI on which the heads are found. percent: the
    share of heads of a stage. seed: of the draws. random_sets: sets of random heads, and of random tokens."""
    settings, percent = study.settings, study.settings["percent"]
    searched, pairs = study.pairs(FROM, settings["n_circuit"]), study.pairs(TO, study.n)
    study.gate(searched)
    stages = stages_of(study, searched, percent, only=("logits", "mover-query"))
    heads = repair.repairing(stages, percent)
    if not heads:
        raise NotJudged(f"no inhibition head and no negative mover was found on {FROM}")
    sets = repair.edit_sets(study, pairs, tuple(heads), settings["random_sets"])
    sweeps = {
        metric: wb.sweep_sets(study.model, pairs, sets, metric=metric, progress=study.step(f"repair: {metric}"))
        for metric in ("accuracy", "accuracy_among_options", "logit_difference")
    }
    table = repair.accuracy_table(sweeps, sets)
    shifts = repair.attention_shifts(study, pairs, stages, sets[repair.ALL])
    rows = {row["edits"]: row for row in table.to_dict("records")}
    control, alone = repair.best_row(table, alone=False), repair.best_row(table, alone=True)
    right = dict(zip(sweeps["accuracy"].labels["set"], sweeps["accuracy"].values, strict=True))
    beyond = Quantity.mean(right[repair.ALL] - right[control["edits"]])
    before, after = (repair.quantity(rows[name], "accuracy", "") for name in (repair.NO_EDIT, repair.ALL))
    known = published.values_beside(
        study.model_name, finding.name, TO, {"accuracy before": before, "accuracy after": after}
    )
    return study.report(
        judge(finding.thresholds, gain=repair.quantity(rows[repair.ALL], "gain"), beyond=beyond),
        [
            f"Heads found on {FROM} (n = {len(searched)}): {', '.join(f'{h} ({role})' for h, role in heads.items())}.",
            *repair.in_words(table, shifts, alone),
            f"Best control: {control['edits']}, accuracy {control['accuracy']:.2f}.",
            *published.values_in_words(known),
        ],
        tables={
            "accuracy": table,
            "movers": shifts,
            "heads": pd.DataFrame(
                {"task": FROM, "stage": "logits" if role == "negative mover" else "mover-query"}
                | head_columns(head)
                | {"role": role, "n": len(searched)}
                for head, role in heads.items()
            ),
            "summary": summary_table(
                {
                    "accuracy before": before.value,
                    "accuracy after": after.value,
                    f"best control: {control['edits']}": control["accuracy"],
                    f"best head: {alone['edits']}": alone["accuracy"],
                },
                len(pairs),
            ),
            **({"published_values": known} if len(known) else {}),
        },
        charts={
            "accuracy": repair.chart(
                table,
                f"Repair of {TO} · {study.model_name} · n = {len(pairs)}",
                f"attention rows of heads found on {FROM}, replaced at the last position",
            )
        },
        data={TO: pairs},
    )


finding = Finding(
    name="circuit-repair",
    title="Repairing a task with another task's heads",
    question="Does an edit of the inhibition heads and negative movers of IOI mend Colored Objects?",
    claim=(
        "Forcing the attention of IOI's inhibition heads and negative movers onto the wrong colours raises the "
        "accuracy on Colored Objects, and more than any control does."
    ),
    thresholds={
        "gain": Threshold("gain in accuracy", above=0, refuted_by="value"),
        "beyond": Threshold(
            "accuracy less that of the best control, on the same prompts", above=0, refuted_by="nothing"
        ),
    },
    run=run,
    defaults={"n": 100, "n_circuit": 20, "seed": 0, "percent": 2.0, "random_sets": 5},
    full={"n": 300, "random_sets": 20},
    source="Merullo, Eickhoff & Pavlick, ICLR 2024, arXiv 2310.08744, section 5",
    tasks=(FROM, TO),
    results_version=2,  # the random heads are different sets
)
