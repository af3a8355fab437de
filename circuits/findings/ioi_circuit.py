"""By which heads does a model identify the indirect object, and what steps in when its movers are gone?

The circuit of Wang et al. (ICLR 2023, arXiv 2211.00593) as a procedure for any model: four stages of path patching, and
a fifth into the keys of the induction heads. A head has a role when it stands out in the role's stage (top share, p
below 0.05) and attends and writes as the role requires (`circuits.ioi.roles`). Others are listed as "unexplained".

Backup: the movers are ablated to their means, and the logit difference is measured twice: with everything else free,
and with the z of the backup heads frozen at its value in the unedited run. Backup heads are those whose direct logit
attribution rises most when the movers are ablated; they are found on other prompts. Control: the same number of random
heads of the same layers, frozen instead.

Tables: ``heads``, ``backup``, ``backup_heads``, ``summary``.
"""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from workbench import statistics
from workbench.findings import Finding, Quantity, Report, Study, Threshold, judge, summary_table

from .. import published
from ..ioi import backup, behaviour
from ..ioi.behaviour import P_VALUE
from ..ioi.roles import COPIES, Described
from ..stages import Stages, stages_of

#: Without one role of each of these lists there is no such circuit.
NEEDED = (("mover", "subject suppressor"), ("inhibition",), ("duplicate-token", "induction"))


def run(study: Study) -> Report:
    """Settings: n: prompts of the stages and of the heads' attention. n_backup: other prompts for backup behaviour,
    half to find the heads and half to measure. percent: the share of heads of each stage. backups: how many backup
    heads. random_sets: different ones, of the control. seed: of all draws."""
    settings, n, percent = study.settings, study.n, study.settings["percent"]
    both = study.pairs("ioi", n + settings["n_backup"])
    pairs, others = both.of(range(n)), both.of(range(n, len(both)))
    gate = study.gate(pairs)
    stages = stages_of(study, pairs, percent)
    heads = behaviour.describe_heads(study, pairs, stages, percent)
    stand_in = backup.measure_backup(
        study,
        others,
        study.reference(both),
        {described.head for described in heads if described.role in NEEDED[0]},
        settings["backups"],
        settings["random_sets"],
    )
    lines, beside = published_lines(study, stages, heads)
    tables = {
        "heads": behaviour.heads_table(heads, "ioi", n),
        "summary": summary_table(
            {"heads with a role": sum(described.role != behaviour.UNEXPLAINED for described in heads)}, n
        ),
        "backup": stand_in.lost,
        "backup_heads": stand_in.heads,
        "published_heads": beside,
    }
    roles = {described.role for described in heads}
    title = f"What the heads of the IOI circuit attend to · {study.model_name} · n = {n}"
    return study.report(
        judge(finding.thresholds, kinds=kinds(roles)),
        [
            f"Accuracy among the options {gate.accuracy:.2f}, logit difference {gate.base:z.2f}.",
            *behaviour.in_words(heads),
            *stand_in.in_words(),
            *lines,
            "",
            f"Needed and missing: {', '.join(map(' or '.join, missing(roles))) or 'none'}.",
        ],
        tables={name: table for name, table in tables.items() if len(table)},
        charts={"attention": behaviour.chart(heads, title)} if heads else {},
        data={"ioi": pairs},
    )


def missing(roles: Collection[str]) -> list[tuple[str, ...]]:
    """The needed kinds of heads of which there are none."""
    return [kind for kind in NEEDED if not set(kind) & set(roles)]


def kinds(roles: Collection[str]) -> Quantity:
    """How many of the needed kinds of heads there are."""
    return Quantity.exact(len(NEEDED) - len(missing(roles)))


def published_lines(study: Study, stages: Stages, heads: list[Described]) -> tuple[list[str], pd.DataFrame]:
    """The published heads of this model beside the measured ones, in words and as a table; both empty without any."""
    known = published.of_model(study.model_name)
    if known is None:
        return [], pd.DataFrame()
    size = statistics.top_count(study.settings["percent"], study.model.n_layers * study.model.n_heads)
    table = published.heads_beside(known, {"ioi": stages}, size)
    roles = behaviour.roles_by_head(heads)
    table = table.assign(role_here=[roles.get(head, "does not stand out") for head in table["head"]])
    return ["", *published.in_words(table, pd.DataFrame(), known)], table


finding = Finding(
    name="ioi-circuit",
    title="The circuit of indirect object identification",
    question="By which heads does the model identify the indirect object, and what steps in when its movers are gone?",
    claim=(
        "The model has the kinds of heads that GPT-2 small has: movers (or heads that suppress the subject), "
        "inhibition heads that read S2 for them, and duplicate-token or induction heads that these read."
    ),
    thresholds={
        "kinds": Threshold(
            "kinds of heads that the circuit needs",
            at_least=len(NEEDED),
            refuted_by="value",
            refuted_at=0,
            detail=f"{', '.join(map(' or '.join, NEEDED))}: a head that stands out, p below {P_VALUE}; attends to its "
            f"role's place, lower end above a uniform head's; if it writes names, has a copy score of {COPIES} or more",
        ),
    },
    run=run,
    defaults={"n": 20, "n_backup": 40, "percent": 2.0, "backups": 5, "random_sets": 5, "seed": 0},
    full={"n": 50, "n_backup": 100, "random_sets": 20},
    source="Wang et al., ICLR 2023, arXiv 2211.00593",
    tasks=("ioi",),
    results_version=2,
)
