"""Is a circuit enough for its task, does it hold all that matters, and does it need each of its heads?

The three tests of Wang et al. (ICLR 2023, arXiv 2211.00593), with heads as the parts of a circuit. Heads outside a set
are ablated at every position to their means over prompts of the task (the variant with unrelated names, where the task
has one). ``F(S)`` is the mean logit difference when only the heads S are left; MLPs always run.

- Faithfulness: ``(F(C) − F(∅)) / (F(all) − F(∅))`` of the circuit C: 1 when it does as well as the whole model, 0 when
  no better than no heads at all.
- Completeness: for sets K of the circuit's heads (each role, and random subsets), ``|F(all − K) − F(C − K)|``, as a
  share of ``F(all) − F(∅)``: 0 when the rest of the model has nothing that steps in.
- Minimality: for each head v of the circuit, the largest ``|F(C − K − v) − F(C − K)|`` over K = ∅ and the others of
  its role, as the same share: heads near 0 are not needed.

Control: random circuits with as many heads in each layer. The circuit is found by path patching on other prompts of the
same task, unless one is given (a circuit file, or a run directory). Tables: ``faithfulness``, ``completeness``,
``minimality``, ``heads``, ``summary``.
"""

from __future__ import annotations

from pathlib import Path
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
from ..reuse import tables
from ..stage_names import role_of
from ..stages import run_stages
from ..task_pairs import REFERENCE, asked, fingerprint, reference

ALL, NONE, CIRCUIT = "all heads", "no heads", "circuit"
#: A circuit is enough when the lower end of its faithfulness is above this.
ENOUGH = 0.5


def run(model: Any, settings: dict[str, Any], progress: Progress) -> Report:
    """Run the tests.

    Settings:
        task: its name. circuit: a file or run directory, "published" for the one in ``circuits/published.toml``, or
        nothing to find one. n: prompts of the tests. n_circuit:
        other prompts on which the circuit is found. percent: the share of heads of each stage. random_circuits: of the
        control. subsets: random subsets for completeness. seed: of all draws.
    """
    settings = finding.settings(settings)
    n, n_circuit, seed = settings["n"], settings["n_circuit"], settings["seed"]
    task = wb.task(settings["task"], n=n + n_circuit, seed=seed)
    try:
        both = asked(model, task)
    except (BadInput, UsageError) as error:
        return finding.not_judged(model, settings, f"the task cannot be asked with this tokeniser ({error})")
    found_on, inputs = both.of(range(n_circuit)), both.of(range(n_circuit, n_circuit + n))
    opening = gate(model, both, task.relation)
    if not opening.passed:
        return finding.not_judged(model, settings, f"the task is {opening.status} ({opening.reason})")
    roles = _circuit(model, task, found_on, settings, progress)
    every = frozenset(Head(i, j) for i in range(model.n_layers) for j in range(model.n_heads))
    circuit = frozenset(head for heads in roles.values() for head in heads)
    if not circuit or not circuit <= every:
        return finding.not_judged(model, settings, "the circuit has no heads, or heads that this model does not have")
    kept = _sets(roles, circuit, every, model.n_heads, settings)

    def tell(done: int, total: int, _: str) -> None:
        progress(done, total, "ablating all but a circuit")

    sweep = wb.sweep_sets(
        model,
        inputs,
        {name: sorted(every - heads) for name, heads in kept.items()},
        mean_over=_over(model, task, both),
        progress=tell,
    )
    return _report(model, settings, roles, inputs, found_on, sweep)


def _circuit(
    model: Any, task: Any, inputs: PairedInputs, settings: dict[str, Any], progress: Progress
) -> dict[str, list[Head]]:
    """Role → heads."""
    if settings["circuit"] == "published":
        return dict(published.circuit(str(model.provenance.get("name")), settings["task"]))
    if settings["circuit"]:
        path = Path(settings["circuit"])
        read = wb.Circuit.from_run(path, settings["task"]) if path.is_dir() else wb.Circuit.load(path)
        return {role: list(heads) for role, heads in read.roles.items()}

    def tell(stage: str, prompts: int) -> None:
        progress(prompts, len(inputs), f"path patching: {stage}")

    stages = run_stages(model, inputs, task.stages, settings["percent"], progress=tell)
    roles: dict[str, list[Head]] = {}
    for stage, heads in tables.circuit_sets(stages, settings["percent"]).items():
        for head in heads:
            roles.setdefault(role_of(stage, float(stages.done[stage].effect[head.layer, head.index])), []).append(head)
    return roles


def _over(model: Any, task: Any, inputs: PairedInputs) -> PairedInputs:
    """What means are taken over: the variant with unrelated names, if there is one, else the task's own prompts."""
    if "abc" in task.variants.get("corruption", {}):
        try:
            unrelated = asked(model, wb.task(task.name, n=REFERENCE, seed=task.seed, corruption="abc")).swapped()
        except (BadInput, UsageError):
            return reference(model, task, inputs)
        known = {len(ids) for ids in unrelated.clean}
        if all(len(ids) in known for ids in inputs.clean):
            return unrelated
    return reference(model, task, inputs)


def _sets(
    roles: dict[str, list[Head]],
    circuit: frozenset[Head],
    every: frozenset[Head],
    n_heads: int,
    settings: dict[str, Any],
) -> dict[str, frozenset[Head]]:
    """Every set of heads that is kept, by its name."""
    kept = {ALL: every, NONE: frozenset(), CIRCUIT: circuit}
    rng = np.random.default_rng(settings["seed"])
    removed = {f"without {role}": frozenset(heads) for role, heads in roles.items()}
    ordered = sorted(circuit)
    for k in range(settings["subsets"]):
        chosen = rng.random(len(ordered)) < 0.5
        removed[f"without random half {k}"] = frozenset(h for h, out in zip(ordered, chosen, strict=True) if out)
    for name, gone in removed.items():
        kept |= {f"{CIRCUIT} {name}": circuit - gone, f"{ALL} {name}": every - gone}
    for head in ordered:
        kept[f"{CIRCUIT} without {head}"] = circuit - {head}
    for role, heads in roles.items():
        for head in heads:  # the others of its role are gone: what the head does alone
            kept[f"{CIRCUIT} without {role} but {head}"] = circuit - (frozenset(heads) - {head})
    for k, other in enumerate(random_like(circuit, n_heads, settings["random_circuits"], settings["seed"])):
        kept[f"random circuit {k}"] = other
    return kept


def _report(
    model: Any,
    settings: dict[str, Any],
    roles: dict[str, list[Head]],
    inputs: PairedInputs,
    found_on: PairedInputs,
    sweep: Sweep,
) -> Report:
    name, task = model.provenance.get("name"), settings["task"]
    score = dict(zip(sweep.labels["set"], sweep.values, strict=True))
    whole = score[ALL] - score[NONE]
    faithful = _share(score[CIRCUIT] - score[NONE], whole)
    labels = [CIRCUIT, *(name for name in score if name.startswith("random circuit"))]
    rows = [_share(score[label] - score[NONE], whole) for label in labels]
    complete, minimal = _completeness(score, whole), _minimality(score, whole, roles)
    at_random = np.array([row["share"] for row in rows[1:]])
    verdict, reason = decide(faithful, at_random)
    needed = (minimal["low"] > 0).sum()
    ours = {"faithfulness": (faithful["share"], faithful["low"], faithful["high"])}
    known = published.values_beside(str(name), finding.name, task, ours)
    lines = [
        finding.question,
        f"Model {name}, {task}: {len(set(minimal['head']))} heads, "
        + (f"from {settings['circuit']}." if settings["circuit"] else f"found on n = {len(found_on)} other prompts.")
        + f" n = {len(inputs)}. Logit difference {score[ALL].mean():.2f} with all heads, {score[NONE].mean():.2f} with "
        f"none, {score[CIRCUIT].mean():.2f} with the circuit alone.",
        "",
        f"Faithfulness {_words(faithful)}; random circuits of the same layers: mean {at_random.mean():.2f}, largest "
        f"{at_random.max():.2f} of {len(at_random)}.",
        "Completeness (difference between the model and the circuit when the same heads are taken from both; 0 is "
        "complete)",
        *(f"  {row['removed']:<32} {_words(row)}" for row in complete.to_dict("records")),
        f"Minimality: {needed} of {len(minimal)} (head, role) pairs change the circuit, their whole interval above 0. "
        "The least needed:",
        *(f"  {r['head']} ({r['role']}) {_words(r)}" for r in minimal.sort_values("share").head(5).to_dict("records")),
        *published.values_in_words(known),
        "",
        f"{verdict.capitalize()}: {reason}.",
    ]
    words: dict[str, Any] = {
        "title": f"Faithfulness · {name} · {task} · n = {len(inputs)}",
        "subtitle": "every head outside the set ablated to its mean · 1: as good as the whole model, 0: as no heads",
        "scale": "share of the logit difference",
        "note": "Random circuits: as many heads in each layer.",
    }
    mean, low, high = (np.array([row[key] for row in rows]) for key in ("share", "low", "high"))
    heads = [
        {"task": task, "stage": role, "layer": h.layer, "index": h.index, "head": str(h), "role": role}
        for role, mine in roles.items()
        for h in mine
    ]
    return Report(
        verdict=verdict,
        summary="\n".join(lines),
        tables={
            "faithfulness": pd.DataFrame(rows).assign(set=labels, n=sweep.n),
            "completeness": complete.assign(n=sweep.n),
            "minimality": minimal.assign(n=sweep.n),
            "heads": pd.DataFrame(heads).assign(n=len(found_on)),
            "summary": pd.DataFrame(
                [
                    {"quantity": "faithfulness", "value": faithful["share"], "low": faithful["low"]}
                    | {"high": faithful["high"], "n": sweep.n}
                ]
            ),
            **({"published_values": known} if len(known) else {}),
        },
        figures={"faithfulness": plotly_charts.bars(mean, low, high, labels, **words)},
        pictures={"faithfulness": matplotlib_charts.bars(mean, low, high, labels, **words)},
        facts={"data": {task: fingerprint(inputs)}},
    )


def _share(part: np.ndarray, whole: np.ndarray) -> dict[str, float]:
    """``mean(part) / mean(whole)`` with its 95 % bootstrap interval over prompts."""
    interval = statistics.ratio_interval(part, whole)
    value = float("nan") if interval.gap_holds_zero else float(part.mean() / whole.mean())
    return {"share": value, "low": float(interval.low), "high": float(interval.high)}


def _completeness(score: dict[str, np.ndarray], whole: np.ndarray) -> pd.DataFrame:
    rows = []
    for name, values in score.items():
        removed = name.removeprefix(f"{ALL} without ")
        if removed != name:
            row = _share(values - score[f"{CIRCUIT} without {removed}"], whole)
            rows.append({"removed": removed, **row})
    return pd.DataFrame(rows)


def _minimality(score: dict[str, np.ndarray], whole: np.ndarray, roles: dict[str, list[Head]]) -> pd.DataFrame:
    rows = []
    for role, heads in roles.items():
        for head in heads:
            alone = score[f"{CIRCUIT} without {role} but {head}"] - score[f"{CIRCUIT} without {role}"]
            last = score[CIRCUIT] - score[f"{CIRCUIT} without {head}"]
            changes = [_size(change, whole) for change in (last, alone)]
            best = max(changes, key=lambda change: change["share"])
            rows.append({"head": str(head), "role": role, **best})
    return pd.DataFrame(rows)


def _size(change: np.ndarray, whole: np.ndarray) -> dict[str, float]:
    """The magnitude of a change as a share; its interval starts at 0 where that of the signed change holds 0."""
    found = _share(change, whole)
    if found["share"] < 0:
        found = {"share": -found["share"], "low": -found["high"], "high": -found["low"]}
    return found | {"low": max(0.0, found["low"])}


def decide(faithful: dict[str, Any], at_random: np.ndarray) -> tuple[Verdict, str]:
    """The rule of `finding.thresholds`."""
    share = f"{faithful['share']:.2f} [{faithful['low']:.2f}, {faithful['high']:.2f}]"
    top = float(np.percentile(at_random, 95)) if len(at_random) else float("nan")
    if faithful["low"] > ENOUGH and faithful["low"] > top:
        return "supported", f"faithfulness {share} is above {ENOUGH} and above random circuits ({top:.2f})"
    if faithful["share"] <= top or faithful["high"] < ENOUGH:
        beaten = "is not above" if faithful["share"] <= top else "is above"
        return "not supported", f"faithfulness {share} {beaten} random circuits' 95th percentile ({top:.2f})"
    open_ = [f"above {ENOUGH}"] if faithful["low"] <= ENOUGH else []
    open_ += [f"above random circuits ({top:.2f})"] if faithful["low"] <= top else []
    return "undecided", f"faithfulness {share} is not surely {' and '.join(open_)}"


def _words(row: dict[Any, Any]) -> str:
    return f"{row['share']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


finding = Finding(
    name="faithfulness",
    title="Is the circuit enough?",
    question="Does a circuit do its task alone, does it hold all that matters, and does it need each of its heads?",
    claim="The heads that path patching finds do more than half of the task alone, and more than random heads do.",
    thresholds={
        "lower end of the faithfulness, above": ENOUGH,
        "and above": "the 95th percentile of random circuits with as many heads in each layer",
    },
    run=run,
    defaults={
        "task": "ioi",
        "circuit": "",
        "n": 25,
        "n_circuit": 20,
        "percent": 2.0,
        "random_circuits": 20,
        "subsets": 10,
        "seed": 0,
    },
    full={"n": 50, "random_circuits": 100, "subsets": 30},
    source="Wang et al., ICLR 2023, arXiv 2211.00593, section 4",
)
