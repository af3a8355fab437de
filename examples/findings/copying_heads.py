"""Do the heads that copy tokens write the answer?

For every head: its copy score (from the weights alone, from -1 to 1) and its direct logit attribution on the task's
prompts (in logits). The claim is about their rank correlation over heads. Control: the copy scores shuffled within each
layer, which keeps whatever the layers have in common.

Tables: ``copying`` (one row per head), ``summary``. To use it, copy this file to ``circuits/findings``.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

import workbench as wb
from workbench import statistics
from workbench.findings import Finding, Quantity, Report, Study, Threshold, judge, summary_table
from workbench.plotting.charts import Scatter


def run(study: Study) -> Report:
    """Settings: task: its name. n: prompts. seed: of the draws. shuffles: of the control."""
    task, draw = study.settings["task"], np.random.default_rng(study.seed)
    pairs = study.pairs(task, study.n)
    study.gate(pairs)
    scores = wb.scores(study.model, pairs, seed=study.seed, random_baseline=False, progress=study.step("head scores"))
    copying, writing = scores["copy_score"], scores["direct_logit_attribution"]
    rank = statistics.spearman(copying, writing)
    correlation = Quantity(rank.rho, rank.low, rank.high)
    shuffles = [draw.permuted(copying, axis=1).ravel() for _ in range(study.settings["shuffles"])]
    control = float(np.percentile([spearmanr(shuffle, writing.ravel())[0] for shuffle in shuffles], 95))
    table = scores.table()[["layer", "head", "copy_score", "direct_logit_attribution"]].assign(n=study.n)
    names = [str(wb.Head(layer, head)) for layer, head in np.ndindex(*copying.shape)]
    chart = Scatter(
        copying.ravel(),
        writing.ravel(),
        names,
        title=f"Copying and writing the answer · {study.model_name} · {task} · n = {study.n}",
        subtitle="one point per head, and the least-squares line",
        x_title="copy score (Σ Re λ / Σ |λ|, from the weights)",
        y_title="direct logit attribution (logits)",
        note=f"Rank correlation {correlation}, 95 % bootstrap interval over heads.",
    )
    return study.report(
        judge(finding.thresholds, correlation=correlation, control=(correlation, control)),
        [f"Rank correlation over {rank.n} heads: {correlation}; {len(shuffles)} shuffles: 95 % below {control:z.2f}."],
        tables={"copying": table, "summary": summary_table({"rank correlation": correlation}, study.n)},
        charts={"copying": chart},
        data={task: pairs},
    )


finding = Finding(
    name="copying-heads",
    title="Copying heads and the answer",
    question="Do the heads that copy tokens write the answer?",
    claim="The more a head copies, the more it writes for the answer, beyond what its layer alone explains.",
    thresholds={
        "correlation": Threshold("rank correlation of copying and writing", above=0),
        "control": Threshold("rank correlation", above="the 95th percentile of shuffles in layers", refuted_by="value"),
    },
    run=run,
    defaults={"task": "ioi", "n": 25, "seed": 0, "shuffles": 100},
    full={"n": 100, "shuffles": 1000},
    source="none: an example",
)
