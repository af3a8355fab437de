"""Does an edit of a few heads, found on one task, mend another?

The repair of Merullo, Eickhoff & Pavlick (ICLR 2024, arXiv 2310.08744, section 5), as a general operation. On IOI the
inhibition heads and negative movers are found by path patching. On Colored Objects, at the last position, the attention
row of each of them is replaced: 0 everywhere and 1/2 on each of the two wrong colours of the question, which such heads
would tell the movers to leave alone. Everything else runs freely.

Controls: random heads of the same layers with the same rows; the same heads onto the right colour; the same heads onto
random tokens of the question; each head alone. Tables: ``accuracy`` (a row for each set of edits), ``movers`` (what
each mover of IOI attends to before and after), ``heads``, ``summary``.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pandas as pd

import workbench as wb
from workbench import statistics
from workbench.core import Head
from workbench.errors import BadInput, UsageError
from workbench.findings import Finding, Progress, Report, Verdict
from workbench.inputs.paired import PairedInputs
from workbench.plotting import matplotlib_charts, plotly_charts
from workbench.results.sweep import Sweep

from .. import published
from ..ablation import random_like
from ..gate import gate
from ..stages import Stages, run_stages, top_receivers
from ..task_pairs import asked, fingerprint

FROM, TO = "ioi", "colored-objects"
WRONG, RIGHT, END = ("wrong1", "wrong2"), ("color",), "end"
ALL, ONTO_RIGHT, ONTO_RANDOM = "all heads onto the wrong colours", "all onto the right colour", "all onto random tokens"


def run(model: Any, settings: dict[str, Any], progress: Progress) -> Report:
    """Run the study.

    Settings:
        n: prompts of Colored Objects. n_circuit: prompts of IOI on which the heads are found. percent: the share of
        heads of a stage. seed: of the draws. random_sets: sets of random heads, and of random tokens.
    """
    settings = finding.settings(settings)
    try:
        found_on = asked(model, wb.task(FROM, n=settings["n_circuit"], seed=settings["seed"]))
        inputs = asked(model, wb.task(TO, n=settings["n"], seed=settings["seed"]))
    except (BadInput, UsageError) as error:
        return finding.not_judged(model, settings, f"the tasks cannot be asked with this tokeniser ({error})")
    opening = gate(model, found_on, "ioi")
    if not opening.passed:
        return finding.not_judged(
            model, settings, f"{FROM} is {opening.status} ({opening.reason}), so there are no heads to take from it"
        )
    stages = _stages(model, found_on, settings["percent"], progress)
    heads = repairing(stages, settings["percent"])
    if not heads:
        return finding.not_judged(model, settings, f"no inhibition head and no negative mover was found on {FROM}")
    sets = _sets(model, inputs, tuple(heads), settings["random_sets"], settings["seed"])

    def tell(done: int, total: int, _: str) -> None:
        progress(done, total, "repair")

    right = {
        metric: wb.sweep_sets(model, inputs, sets, metric=metric, progress=tell)
        for metric in ("accuracy", "accuracy_among_options", "logit_difference")
    }
    table = _accuracies(right, sets)
    movers = _movers(model, inputs, stages, sets[ALL])
    return _report(model, settings, inputs, heads, table, movers, right["accuracy"])


def repairing(stages: Stages, percent: float) -> dict[Head, str]:
    """The heads that tell movers what to leave alone, with their roles: inhibition heads, which work for the answer
    along the movers' queries, and negative movers."""
    heads: dict[Head, str] = {}
    if "mover-query" in stages.done:
        heads |= {head: "inhibition" for head in top_receivers(stages.done["mover-query"], percent)}
    effect = stages.done["logits"].effect
    for head in stages.done["logits"].sweep.top(percent=percent):
        if effect[head.layer, head.index] < 0:
            heads[head] = "negative mover"
    return heads


def _stages(model: Any, inputs: PairedInputs, percent: float, progress: Progress) -> Stages:
    positions = {k: v for k, v in wb.task(FROM).stages.items() if k in ("logits", "mover-query")}

    def tell(stage: str, prompts: int) -> None:
        progress(prompts, len(inputs), f"path patching on {FROM}: {stage}")

    return run_stages(model, inputs, positions, percent, progress=tell)


def _rows(heads: tuple[Head, ...], onto: tuple[int | str, ...]) -> list[wb.Edit]:
    return [wb.Edit("pattern", h.layer, h.index, END, "pattern", attend_to=onto) for h in heads]


def _sets(
    model: Any, inputs: PairedInputs, heads: tuple[Head, ...], random_sets: int, seed: int
) -> dict[str, list[wb.Edit]]:
    """Every set of edits by its name."""
    sets = {ALL: _rows(heads, WRONG), ONTO_RIGHT: _rows(heads, RIGHT)}
    # Counted from the end: the same places in prompts of several lengths, inside the question.
    shortest = min(map(len, inputs.clean))
    draw = random.Random(f"circuit-repair/{seed}")
    for k in range(random_sets):
        places = tuple(-1 - i for i in draw.sample(range(shortest // 2), 2))
        sets[f"{ONTO_RANDOM}, {k}"] = _rows(heads, places)
    for k, other in enumerate(random_like(frozenset(heads), model.n_heads, random_sets, seed)):
        sets[f"random heads of the same layers, {k}"] = _rows(tuple(sorted(other)), WRONG)
    return sets | {f"{head} alone": _rows((head,), WRONG) for head in heads}


def _accuracies(right: dict[str, Sweep], sets: dict[str, list[wb.Edit]]) -> pd.DataFrame:
    top, among, logits = (right[m] for m in ("accuracy", "accuracy_among_options", "logit_difference"))
    rows = []
    for name, after, options, difference in (
        ("no edit", top.base, among.base, logits.base),
        *((n, top.values[i], among.values[i], logits.values[i]) for i, n in enumerate(sets)),
    ):
        low, high = statistics.proportion_interval(int(after.sum()), len(after))
        gain = statistics.mean_interval(after - top.base)
        rows.append(
            {
                "edits": name,
                "heads": len(sets.get(name, ())),
                "accuracy": after.mean(),
                "low": low,
                "high": high,
                "gain": (after - top.base).mean(),
                "gain_low": float(gain.low),
                "gain_high": float(gain.high),
                "mended": int(((after == 1) & (top.base == 0)).sum()),
                "new_mistakes": int(((after == 0) & (top.base == 1)).sum()),
                "accuracy_among_options": options.mean(),
                "logit_difference": difference.mean(),
                "n": len(after),
            }
        )
    return pd.DataFrame(rows)


def _movers(model: Any, inputs: PairedInputs, stages: Stages, edits: list[wb.Edit]) -> pd.DataFrame:
    """What the strongest heads of the stage ``logits`` attend to at the end, before and after the edits."""
    stage = stages.done["logits"]
    edited = {(edit.layer, edit.head) for edit in edits}
    movers = [h for h in stage.sweep.top(k=max(10, len(edits))) if (h.layer, h.index) not in edited]
    layers = sorted({head.layer for head in movers})
    before, after = (wb.record(model, inputs, ["pattern"], layers, edits=e) for e in ((), edits))
    rows = []
    for head in movers:
        shift: dict[str, list[float]] = {"wrong": [], "right": []}
        for i in range(len(inputs)):
            at = inputs.positions[i]
            row = [run.clean["pattern"][i][layers.index(head.layer), head.index, at[END]] for run in (before, after)]
            for name, places in (("wrong", WRONG), ("right", RIGHT)):
                shift[name].append(sum(float(row[1][at[p]] - row[0][at[p]]) for p in places))
        found: dict[str, Any] = {"head": str(head), "effect": stage.effect[head.layer, head.index], "n": len(inputs)}
        for name, values in shift.items():
            low, high = statistics.mean_interval(np.array(values))
            found |= {f"to_{name}": np.mean(values), f"to_{name}_low": float(low), f"to_{name}_high": float(high)}
        rows.append(found)
    return pd.DataFrame(rows)


def _report(
    model: Any,
    settings: dict[str, Any],
    inputs: PairedInputs,
    heads: dict[Head, str],
    table: pd.DataFrame,
    movers: pd.DataFrame,
    top: Sweep,
) -> Report:
    name, rows = model.provenance.get("name"), {row["edits"]: row for row in table.to_dict("records")}
    repaired, controls = rows[ALL], [r for n, r in rows.items() if n.startswith((ONTO_RANDOM, ONTO_RIGHT, "random"))]
    best = max(controls, key=lambda row: row["accuracy"])
    alone = max((r for n, r in rows.items() if n.endswith(" alone")), key=lambda row: row["accuracy"])
    at = {label: i for i, label in enumerate(top.labels["set"])}
    beyond = statistics.mean_interval(top.values[at[ALL]] - top.values[at[best["edits"]]])
    verdict, reason = decide(repaired, best, float(beyond.low))
    ours = {
        quantity: (row["accuracy"], row["low"], row["high"])
        for quantity, row in (("accuracy before", rows["no edit"]), ("accuracy after", repaired))
    }
    known = published.values_beside(str(name), finding.name, TO, ours)
    follow = statistics.spearman(movers["effect"].to_numpy(float), -movers["to_wrong"].to_numpy(float))
    listed = ", ".join(f"{head} ({role})" for head, role in heads.items())
    lines = [
        finding.question,
        f"Model {name}. Heads found on {FROM} (n = {settings['n_circuit']}): {listed}.",
        f"n = {len(inputs)} prompts of {TO}.",
        "",
        "Accuracy over the whole vocabulary [95 % interval]; gain on the same prompts; mended and new mistakes",
        *(_line(row) for row in rows.values()),
        f"Alone, {alone['edits'].removesuffix(' alone')} does best: {alone['gain']:+.2f} [{alone['gain_low']:+.2f}, "
        f"{alone['gain_high']:+.2f}].",
        "",
        f"What the strongest heads of {FROM} attend to at the end, after less before the edit of all heads",
        *(
            f"  {row['head']} (effect {row['effect']:+.2f}): wrong colours {row['to_wrong']:+.3f} "
            f"[{row['to_wrong_low']:+.3f}, {row['to_wrong_high']:+.3f}], right {row['to_right']:+.3f} "
            f"[{row['to_right_low']:+.3f}, {row['to_right_high']:+.3f}]"
            for row in movers.to_dict("records")
        ),
        f"  Rank correlation of effect with the turning away from wrong colours: {follow.rho:.2f} "
        f"[{follow.low:.2f}, {follow.high:.2f}], {follow.n} heads.",
        "",
        *published.values_in_words(known),
        "",
        f"{verdict.capitalize()}: {reason}.",
    ]
    shown = table.iloc[::-1]
    words: dict[str, Any] = {
        "title": f"Repair of {TO} · {name} · n = {len(inputs)}",
        "subtitle": f"attention rows of heads found on {FROM}, replaced at the last position",
        "scale": "accuracy over the whole vocabulary",
        "note": "Intervals: Wilson, 95 %.",
    }
    mean, low, high = (shown[c].to_numpy(float) for c in ("accuracy", "low", "high"))
    labels = shown["edits"].tolist()
    return Report(
        verdict=verdict,
        summary="\n".join(lines),
        tables={
            "accuracy": table,
            "movers": movers,
            "heads": pd.DataFrame(
                [
                    {"task": FROM, "stage": "logits" if r == "negative mover" else "mover-query", "layer": h.layer}
                    | {"index": h.index, "head": str(h), "role": r, "n": settings["n_circuit"]}
                    for h, r in heads.items()
                ]
            ),
            "summary": pd.DataFrame(
                [
                    {"quantity": "accuracy before", "value": rows["no edit"]["accuracy"], "n": len(inputs)},
                    {"quantity": "accuracy after", "value": repaired["accuracy"], "n": len(inputs)},
                    {"quantity": f"best control: {best['edits']}", "value": best["accuracy"], "n": len(inputs)},
                    {"quantity": f"best head: {alone['edits']}", "value": alone["accuracy"], "n": len(inputs)},
                ]
            ),
            **({"published_values": known} if len(known) else {}),
        },
        figures={"accuracy": plotly_charts.bars(mean, low, high, labels, **words)},
        pictures={"accuracy": matplotlib_charts.bars(mean, low, high, labels, **words)},
        facts={"data": {TO: fingerprint(inputs)}},
    )


def decide(repaired: dict[str, Any], best: dict[str, Any], beyond_low: float) -> tuple[Verdict, str]:
    """The rule of `finding.thresholds`."""
    gain = f"{repaired['gain']:+.2f} [{repaired['gain_low']:+.2f}, {repaired['gain_high']:+.2f}]"
    control = f"the best control ({best['edits']}) has {best['accuracy']:.2f}"
    if repaired["gain_low"] > 0 and beyond_low > 0:
        return "supported", f"the edit raises accuracy by {gain}, and {control}, surely less on the same prompts"
    if repaired["gain_high"] <= 0 or repaired["gain"] <= 0:
        return "not supported", f"the edit changes accuracy by {gain}"
    return "undecided", f"the edit changes accuracy by {gain}, and {control}: the intervals do not settle it"


def _line(row: dict[str, Any]) -> str:
    return (
        f"  {row['edits']:<40} {row['accuracy']:.2f} [{row['low']:.2f}, {row['high']:.2f}]; {row['gain']:+.2f} "
        f"[{row['gain_low']:+.2f}, {row['gain_high']:+.2f}]; {row['mended']} mended, {row['new_mistakes']} new"
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
        "lower end of the gain in accuracy, above": "0",
        "lower end of the accuracy less that of the best control, on the same prompts, above": "0",
    },
    run=run,
    defaults={"n": 100, "n_circuit": 20, "seed": 0, "percent": 2.0, "random_sets": 5},
    full={"n": 300, "random_sets": 20},
    source="Merullo, Eickhoff & Pavlick, ICLR 2024, arXiv 2310.08744, section 5",
    tasks=(FROM, TO),
)
