"""By which heads does a model identify the indirect object, and what steps in when its movers are gone?

The circuit of Wang et al. (ICLR 2023, arXiv 2211.00593) as a procedure for any model: four stages of path patching and
a fifth into the keys of the induction heads; a head has a role when it stands out in the role's stage (top share, p
below 0.05) and attends and writes as the role asks (`circuits.ioi.roles`). Others are listed as "unexplained".

Backup: the movers are set to their means, and the logit difference measured with everything else free, and with the z
of the backup heads frozen to what it was in the unedited run. Backup heads are those whose direct logit attribution
rises most when the movers are gone, found on other prompts. Control: as many random heads of the same layers frozen
instead.

Tables: ``heads``, ``backup``, ``backup_heads``, ``summary``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

import workbench as wb
from workbench import statistics
from workbench.core import Head
from workbench.errors import BadInput, UsageError
from workbench.findings import Finding, Progress, Report, Verdict
from workbench.head_scores.on_task import task_scores
from workbench.inputs.paired import PairedInputs
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import resolve_model
from workbench.plotting import matplotlib_charts, plotly_charts
from workbench.results.sweep import Sweep

from .. import published
from ..ablation import damage, random_like
from ..gate import gate
from ..ioi.roles import ROLES, Described, attention, has_role, uniform
from ..stages import STEPS, Stages, Step, patched, run_stages
from ..task_pairs import asked, fingerprint, reference

P_VALUE, UNEXPLAINED = 0.05, "unexplained"
#: The stage into the induction heads' keys.
PREVIOUS = Step("previous", "k", "earlier")
#: Without one of each of these lists there is no such circuit.
NEEDED = (("mover", "subject suppressor"), ("inhibition",), ("duplicate-token", "induction"))
FREE, FROZEN, CONTROL = "movers ablated", "movers ablated, backup frozen", "movers ablated, random heads frozen"


def run(model: Any, settings: dict[str, Any], progress: Progress) -> Report:
    """Find the circuit.

    Settings:
        n: prompts of the stages and of the heads' attention. n_backup: other prompts for backup behaviour, half to find
        the heads and half to measure. percent: the share of heads of each stage. backups: how many backup heads.
        random_sets: of the control. seed: of all draws.
    """
    settings = finding.settings(settings)
    n, seed, percent = settings["n"], settings["seed"], settings["percent"]
    task = wb.task("ioi", n=n + settings["n_backup"], seed=seed)
    try:
        both = asked(model, task)
    except (BadInput, UsageError) as error:
        return finding.not_judged(model, settings, f"the task cannot be asked with this tokeniser ({error})")
    inputs, others = both.of(range(n)), both.of(range(n, n + settings["n_backup"]))
    opening = gate(model, inputs, "ioi")
    if not opening.passed:
        return finding.not_judged(model, settings, f"the task is {opening.status} ({opening.reason})")

    def tell(stage: str, prompts: int) -> None:
        progress(prompts, len(inputs), f"path patching: {stage}")

    stages = run_stages(model, inputs, task.stages, percent, progress=tell)
    found = _described(model, inputs, stages, percent, progress)
    over = reference(model, task, both)
    backup, backups = _backup(model, others, over, found, settings, progress)
    return _report(model, settings, opening, inputs, stages, found, backup, backups)


def _described(model: Any, inputs: PairedInputs, stages: Stages, percent: float, progress: Progress) -> list[Described]:
    """Every head that stands out in a stage, with its role."""
    sweeps = {name: stage.sweep for name, stage in stages.done.items()}
    effects = {name: stage.effect for name, stage in stages.done.items()}
    copies = task_scores(model, Recorder(resolve_model(model)), inputs)
    found = [
        d
        for step in STEPS
        if step.name in sweeps
        for d in _of_stage(model, inputs, step.name, sweeps[step.name], effects[step.name], percent, copies)
    ]
    receivers = tuple(sorted({d.head for d in found if d.role == "induction" and d.head.layer > 0}))
    if receivers:

        def tell(done: int, total: int, _: str) -> None:
            progress(done, total, "path patching: previous")

        sweep = patched(model, inputs, PREVIOUS, receivers, "S1+1", tell)
        effect = sweep.mean_delta / np.asarray(sweep.gap).mean()
        found += _of_stage(model, inputs, PREVIOUS.name, sweep, effect, percent, copies)
    return found


def _of_stage(
    model: Any, inputs: PairedInputs, stage: str, sweep: Sweep, effect: np.ndarray, percent: float, copies: Any
) -> list[Described]:
    heads = [h for h in sweep.top(percent=percent) if sweep.p_value[h.layer, h.index] < P_VALUE]
    layers = sorted({head.layer for head in heads})
    if not layers:
        return []
    recorded = wb.record(model, inputs, ["pattern"], layers).clean["pattern"]
    patterns = [x.numpy() for x in recorded]
    pairs = {(r.source, t) for r in ROLES for t in (*r.targets, *r.rivals)}
    found = []
    for head in heads:
        mine = [x[layers.index(head.layer), head.index] for x in patterns]
        seen = {(a, b): attention(mine, inputs, a, b) for a, b in pairs}
        at = (head.layer, head.index)
        written = (float(copies.read_out[at]), float(copies.read_out_negative[at]))
        role = next(
            (
                r.name
                for r in ROLES
                if r.stage == stage and has_role(r, float(effect[at]), seen, uniform(inputs, r.source), *written)
            ),
            UNEXPLAINED,
        )
        means = {
            pair: float(np.nanmean(values)) if np.isfinite(values).any() else np.nan for pair, values in seen.items()
        }
        found.append(Described(head, role, stage, float(effect[at]), float(sweep.p_value[at]), means, *written))
    return found


def _backup(
    model: Any,
    inputs: PairedInputs,
    over: PairedInputs,
    found: list[Described],
    settings: dict[str, Any],
    progress: Progress,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is lost without the movers, with their backups free and frozen; and the backups."""
    movers = sorted({d.head for d in found if d.role in NEEDED[0]})
    if not movers or len(inputs) < 4:
        return pd.DataFrame(), pd.DataFrame()
    half = len(inputs) // 2
    ablated = [wb.Edit("z", h.layer, h.index, kind="mean") for h in movers]
    rise = _rise(model, inputs.of(range(half)), over, ablated)
    rise[tuple(np.array([(h.layer, h.index) for h in movers]).T)] = -np.inf
    best = np.argsort(-rise, axis=None, kind="stable")[: settings["backups"]]
    backups = [Head(int(i), int(j)) for i, j in zip(*np.unravel_index(best, rise.shape), strict=True)]
    # Frozen to the unedited run: "patch" from a pair whose other run is the very same prompt.
    measured = inputs.of(range(half, len(inputs)))
    measured = replace(measured, corrupt=tuple(ids.clone() for ids in measured.clean))
    sets = {FREE: ablated, FROZEN: [*ablated, *_frozen(backups)]}
    for k, other in enumerate(
        random_like(frozenset(backups), model.n_heads, settings["random_sets"], settings["seed"])
    ):
        sets[f"{CONTROL}, {k}"] = [*ablated, *_frozen(sorted(other - set(movers)))]

    def tell(done: int, total: int, _: str) -> None:
        progress(done, total, "ablating the movers")

    sweep = wb.sweep_sets(model, measured, sets, mean_over=over, progress=tell)
    rows = []
    for label, values in zip(sweep.labels["set"], sweep.values, strict=True):
        lost = damage(sweep.base, values)
        rows.append({"edits": label, "lost": lost.value, "low": lost.low, "high": lost.high, "n": sweep.n})
    frozen, free = (sweep.values[list(sweep.labels["set"]).index(name)] for name in (FROZEN, FREE))
    made_up = damage(sweep.base, sweep.base - (free - frozen))
    rows.append({"edits": "made up by the backups", "lost": made_up.value, "low": made_up.low, "high": made_up.high})
    table = pd.DataFrame(rows).assign(n=sweep.n)
    listed = pd.DataFrame(
        [
            {"head": str(h), "layer": h.layer, "index": h.index, "rise": float(rise[h.layer, h.index]), "n": half}
            for h in backups
        ]
    )
    return table, listed


def _frozen(heads: list[Head]) -> list[wb.Edit]:
    return [wb.Edit("z", head.layer, head.index, kind="patch") for head in heads]


def _rise(model: Any, inputs: PairedInputs, over: PairedInputs, edits: list[wb.Edit]) -> np.ndarray:
    """How much each head's direct logit attribution rises under the edits, ``[layer, head]``, in logits."""
    recorder = Recorder(resolve_model(model))
    before = task_scores(model, recorder, inputs, reading_out=0).attribution
    after = task_scores(model, recorder, inputs, edits, over, reading_out=0).attribution
    return (after - before).mean(0)


def decide(found: list[Described]) -> tuple[Verdict, str]:
    """The rule of `finding.thresholds`."""
    there = {d.role for d in found}
    missing = [" or ".join(names) for names in NEEDED if not there & set(names)]
    if not missing:
        return "supported", "heads of every kind that the circuit needs stand out and behave as their roles ask"
    if len(missing) == len(NEEDED):
        return "not supported", "no head that stands out behaves as any role asks"
    return "undecided", f"there is no {', no '.join(missing)} head by both tests"


def _report(
    model: Any,
    settings: dict[str, Any],
    opening: Any,
    inputs: PairedInputs,
    stages: Stages,
    found: list[Described],
    backup: pd.DataFrame,
    backups: pd.DataFrame,
) -> Report:
    name, n = model.provenance.get("name"), len(inputs)
    verdict, reason = decide(found)
    lines = [
        finding.question,
        f"Model {name}: accuracy {opening.accuracy:.2f}, logit difference {opening.base:.2f}. n = {n}.",
        "",
        "Heads that stand out in a stage (p below 0.05), by role (effect; attention to the role's place; copy score)",
    ]
    for role in (*(r.name for r in ROLES), UNEXPLAINED):
        mine = [d for d in found if d.role == role]
        lines.append(f"  {role:<19} " + (", ".join(_head_words(d) for d in mine) or "none"))
    if len(backup):
        lines += ["", "Share of the logit difference that is lost (95 % interval), on other prompts"]
        lines += [
            f"  {row['edits']:<40} {row['lost']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
            for row in backup.to_dict("records")
        ]
        lines.append(
            "  Backup heads: " + ", ".join(f"{r['head']} (+{r['rise']:.2f})" for r in backups.to_dict("records"))
        )
    known = published.of_model(str(name))
    beside = pd.DataFrame()
    if known is not None:
        kept = statistics.top_count(settings["percent"], model.n_layers * model.n_heads)
        beside = published.heads_beside(known, {"ioi": stages}, kept)
        ours = {str(d.head): d.role for d in reversed(found)}
        beside = beside.assign(role_here=[ours.get(head, "does not stand out") for head in beside["head"]])
        lines += ["", *published.in_words(beside, pd.DataFrame(), known)]
    lines += ["", f"{verdict.capitalize()}: {reason}."]
    rows = [
        {"task": "ioi", "stage": d.stage, "layer": d.head.layer, "index": d.head.index, "head": str(d.head)}
        | {"role": d.role, "effect": d.effect, "p_value": d.p_value, "copies": d.copies, "suppresses": d.suppresses}
        | {f"{a} to {b}": value for (a, b), value in sorted(d.attention.items())}
        | {"n": n}
        for d in found
    ]
    drawn: dict[str, Any] = {}
    if found:
        columns = sorted(found[0].attention)
        values = np.array([[d.attention[c] for c in columns] for d in found])
        words: dict[str, Any] = {
            "title": f"What the heads of the IOI circuit attend to · {name} · n = {n}",
            "subtitle": "heads that stand out in a stage of path patching, with the roles they were found to have",
            "scale": "mean attention",
            "x_title": "from → to",
            "y_title": "head",
            "diverging": False,
            "show_values": True,
            "note": "Grey: the place is not seen yet.",
        }
        where = ([f"{a} → {b}" for a, b in columns], [f"{d.head} {d.role} ({d.stage})" for d in found])
        drawn = {
            "attention": (
                plotly_charts.heatmap(values, *where, **words),
                matplotlib_charts.heatmap(values, *where, **words),
            )
        }
    tables = {
        "heads": pd.DataFrame(rows),
        "summary": pd.DataFrame(
            [{"quantity": "heads with a role"} | {"value": sum(d.role != UNEXPLAINED for d in found), "n": n}]
        ),
    }
    if len(backup):
        tables |= {"backup": backup, "backup_heads": backups}
    if len(beside):
        tables["published_heads"] = beside
    return Report(
        verdict=verdict,
        summary="\n".join(lines),
        tables={key: table for key, table in tables.items() if len(table)},
        figures={key: figure for key, (figure, _) in drawn.items()},
        pictures={key: picture for key, (_, picture) in drawn.items()},
        facts={"data": {"ioi": fingerprint(inputs)}},
    )


def _head_words(d: Described) -> str:
    role = next((r for r in ROLES if r.name == d.role), None)
    parts = [f"{d.effect:+.2f}"]
    if role is not None:
        parts.append(
            f"{role.source} → {'+'.join(role.targets)} {sum(d.attention[role.source, t] for t in role.targets):.2f}"
        )
        parts += [f"copies {d.copies:.2f}"] if role.writes == 1 else []
        parts += [f"suppresses {d.suppresses:.2f}"] if role.writes == -1 else []
    return f"{d.head} ({'; '.join(parts)})"


finding = Finding(
    name="ioi-circuit",
    title="The circuit of indirect object identification",
    question="By which heads does the model identify the indirect object, and what steps in when its movers are gone?",
    claim=(
        "The model has the kinds of heads that GPT-2 small has: movers (or heads that suppress the subject), "
        "inhibition heads that read S2 for them, and duplicate-token or induction heads that these read."
    ),
    thresholds={
        "heads that stand out (p below 0.05) and behave as their role asks, of each needed kind, at least": 1,
        "attention to the role's place: lower end of its interval, above": "a uniform head's",
        "copy score of heads that write names, at least": 0.5,
    },
    run=run,
    defaults={"n": 20, "n_backup": 40, "percent": 2.0, "backups": 5, "random_sets": 5, "seed": 0},
    full={"n": 50, "n_backup": 100, "random_sets": 20},
    source="Wang et al., ICLR 2023, arXiv 2211.00593",
    tasks=("ioi",),
)
