"""Which heads does a task need, and do three ways of ablating a head agree?

Every head is ablated on its own at every position: its z set to zero, to its mean (per named position, else per index
within one length), or to that of another prompt of the same length. The heads are ranked by the drop of the metric on
one set of prompts; on another set, heads are then ablated together, those that matter most first, those that matter
least first, and in random orders.

Tables: ``heads`` (a row a head: the change by each ablation, with interval and p-value), ``agreement`` (rank
correlation of each two ablations), ``curve`` (what is left after ablating the first k of an order), ``summary``.
"""

from __future__ import annotations

import time
from itertools import combinations
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

from ..gate import gate
from ..task_pairs import asked, fingerprint, reference, with_company

KINDS = ("zero", "mean", "resample")
MOST, LEAST, RANDOM = "most relevant first", "least relevant first", "random order"
#: Two ablations agree when the lower end of their rank correlation is above this.
AGREE = 0.5
#: Heads in the timing beforehand.
PROBE = 1


def run(model: Any, settings: dict[str, Any], progress: Progress) -> Report:
    """Run the study.

    Settings:
        task: its name. n: prompts that heads are ranked on, and as many others for the curve. seed: of the draws.
        points: steps of the curve. random_orders: random orders beside the two.
    """
    settings = finding.settings(settings)
    task = wb.task(settings["task"], n=2 * settings["n"], seed=settings["seed"])
    try:
        both = asked(model, task)
    except (BadInput, UsageError) as error:
        return finding.not_judged(model, settings, f"it cannot be asked with this tokeniser ({error})")
    opening = gate(model, both, task.relation)
    if not opening.passed:
        return finding.not_judged(model, settings, f"{opening.status} ({opening.reason})")
    ranked_on = with_company(both.of(range(settings["n"])))
    measured = both.of(range(settings["n"], 2 * settings["n"]))
    if not len(ranked_on):
        return finding.not_judged(model, settings, "no two prompts have one length, so that none can be resampled")
    over = reference(model, task, both)
    _announce(model, ranked_on, progress)
    sweeps = {kind: _sweep(model, ranked_on, over, kind, settings["seed"], progress) for kind in KINDS}
    curve = _curve(model, measured, over, sweeps["mean"], settings, progress)
    return _report(model, settings, opening, sweeps, curve, ranked_on, measured)


def _announce(model: Any, inputs: PairedInputs, progress: Progress) -> None:
    """Say how long it will take: edits at every position start at the first one, and cost more than a patch."""
    part = inputs.of(list(inputs.groups(8)[0].members))
    began = time.perf_counter()
    wb.sweep(model, part, edit="zero", heads=list(range(PROBE)), cache=False)
    each = (time.perf_counter() - began) / len(part) / PROBE
    minutes = each * len(inputs) * model.n_heads * len(KINDS) / 60
    progress(0, 0, f"head-ablation: about {max(1, round(minutes))} min, and half as much again for the curve")


def _sweep(model: Any, inputs: PairedInputs, over: PairedInputs, kind: str, seed: int, progress: Progress) -> Sweep:
    def tell(done: int, total: int, _: str) -> None:
        progress(done, total, f"{kind} ablation of every head")

    return wb.sweep(model, inputs, edit=kind, mean_over=over if kind == "mean" else None, seed=seed, progress=tell)


def orders(drop: np.ndarray, random_orders: int, seed: int) -> dict[str, list[Head]]:
    """The heads in the order of their relevance, in the opposite one, and at random."""
    heads = [Head(layer, index) for layer, index in np.ndindex(*drop.shape)]
    ranking = np.argsort(-drop.ravel(), kind="stable")
    found = {MOST: [heads[i] for i in ranking], LEAST: [heads[i] for i in ranking[::-1]]}
    rng = np.random.default_rng(seed)
    for k in range(random_orders):
        found[f"{RANDOM} {k}"] = [heads[i] for i in rng.permutation(len(heads))]
    return found


def _curve(
    model: Any, inputs: PairedInputs, over: PairedInputs, ranked: Sweep, settings: dict[str, Any], progress: Progress
) -> pd.DataFrame:
    """What is left of the metric after mean-ablating the first k heads of each order."""
    drop = -ranked.mean_delta
    counts = np.unique(np.round(np.geomspace(1, drop.size, settings["points"])).astype(int))
    by_order = orders(drop, settings["random_orders"], settings["seed"])
    sets = {f"{name}|{k}": heads[:k] for name, heads in by_order.items() for k in counts}

    def tell(done: int, total: int, _: str) -> None:
        progress(done, total, "ablating heads together")

    sweep = wb.sweep_sets(model, inputs, sets, mean_over=over, progress=tell)
    rows = []
    for i, label in enumerate(sweep.labels["set"]):
        order, _, k = label.rpartition("|")
        interval = statistics.ratio_interval(sweep.values[i], sweep.base)
        left = float(sweep.values[i].mean() / sweep.base.mean())
        rows.append(
            {"order": order, "heads": int(k), "left": left, "low": float(interval.low), "high": float(interval.high)}
            | {"n": sweep.n, "share_of_heads": int(k) / drop.size}
        )
    return pd.DataFrame(rows).assign(area=np.nan, area_low=np.nan, area_high=np.nan).pipe(_with_areas, sweep, counts)


def _with_areas(frame: pd.DataFrame, sweep: Sweep, counts: np.ndarray) -> pd.DataFrame:
    """Add the area between the least-first and the most-first curve over log k, with its interval over prompts."""
    at = {label: i for i, label in enumerate(sweep.labels["set"])}
    curves = [np.array([sweep.values[at[f"{name}|{k}"]] for k in counts]) for name in (LEAST, MOST)]
    weights = np.gradient(np.log(counts)) if len(counts) > 1 else np.ones(1)
    gap = (weights / weights.sum()) @ (curves[0] - curves[1])
    interval = statistics.ratio_interval(gap, sweep.base)
    frame[["area", "area_low", "area_high"]] = [
        gap.mean() / sweep.base.mean(),
        float(interval.low),
        float(interval.high),
    ]
    return frame


def _agreement(sweeps: dict[str, Sweep]) -> pd.DataFrame:
    rows = []
    for a, b in combinations(KINDS, 2):
        x, y = sweeps[a].mean_delta, sweeps[b].mean_delta
        found = statistics.spearman(x, y)
        top = [set(map(str, sweeps[kind].top(10))) for kind in (a, b)]
        rows.append(
            {"first": a, "second": b, "spearman": found.rho, "low": found.low, "high": found.high}
            | {"of_top_10_shared": len(top[0] & top[1]), "heads": found.n, "n": sweeps[a].n}
        )
    return pd.DataFrame(rows)


def _heads(sweeps: dict[str, Sweep]) -> pd.DataFrame:
    first = next(iter(sweeps.values()))
    columns: dict[str, Any] = {name: first.table()[name] for name in ("layer", "head")}
    for kind, sweep in sweeps.items():
        numbers = {"": sweep.mean_delta, "_low": sweep.delta_low, "_high": sweep.delta_high, "_p": sweep.p_value}
        columns |= {f"{kind}{end}": values.ravel() for end, values in numbers.items()}
    return pd.DataFrame(columns).assign(n=first.n)


def decide(agreement: pd.DataFrame, area_low: float, area_high: float) -> tuple[Verdict, str]:
    """The rule of `finding.thresholds`."""
    least = float(agreement["low"].to_numpy(float).min())
    apart = f"the area between the curves is at least {area_low:.2f} of the metric"
    if area_low > 0 and least > AGREE:
        return "supported", f"{apart}, and the rank correlations are all above {AGREE} (the least at least {least:.2f})"
    if area_high <= 0:
        return "not supported", "ablating the heads ranked first does not hurt more than ablating those ranked last"
    missing = [] if area_low > 0 else ["the interval of the area between the curves holds 0"]
    missing += [] if least > AGREE else [f"a rank correlation may be as low as {least:.2f}"]
    return "undecided", " and ".join(missing)


def _report(
    model: Any,
    settings: dict[str, Any],
    opening: Any,
    sweeps: dict[str, Sweep],
    curve: pd.DataFrame,
    ranked_on: PairedInputs,
    measured: PairedInputs,
) -> Report:
    name, task = model.provenance.get("name"), settings["task"]
    agreement, heads = _agreement(sweeps), _heads(sweeps)
    area = curve.iloc[0]
    verdict, reason = decide(agreement, float(area["area_low"]), float(area["area_high"]))
    lines = [
        finding.question,
        f"Model {name}, {task}: accuracy among the options {opening.accuracy:.2f}, "
        f"logit difference {opening.base:.2f}.",
        f"Heads ranked on n = {len(ranked_on)} prompts, the curve measured on n = {len(measured)} others.",
        "",
        "Heads whose ablation changes the logit difference most (95 % interval; p corrected for the number of heads)",
    ]
    for kind, sweep in sweeps.items():
        best = [(h, sweep.mean_delta[h.layer, h.index], sweep.p_value[h.layer, h.index]) for h in sweep.top(6)]
        lines.append(f"  {kind:<9} " + ", ".join(f"{h} ({d:+.2f}, p {p:.2g})" for h, d, p in best))
    lines += ["", "How far the ablations agree (Spearman over all heads; shared among the ten strongest)"]
    lines += [
        f"  {r['first']} with {r['second']}: {r['spearman']:.2f} [{r['low']:.2f}, {r['high']:.2f}]; "
        f"{r['of_top_10_shared']} of 10"
        for r in agreement.to_dict("records")
    ]
    lines += ["", "What is left of the logit difference after mean-ablating heads together"]
    points = curve.to_dict("records")
    for order in (MOST, LEAST, RANDOM):
        left: dict[int, list[float]] = {}
        for point in points:
            if str(point["order"]).startswith(order):
                left.setdefault(point["heads"], []).append(point["left"])
        cells = ", ".join(f"{k}: {np.mean(values):.2f}" for k, values in left.items())
        lines.append(f"  {order:<22} {cells or 'none was asked for'}")
    lines += [
        f"  Area between least first and most first, over log k: {area['area']:.2f} [{area['area_low']:.2f}, "
        f"{area['area_high']:.2f}] of the metric.",
        "",
        f"{verdict.capitalize()}: {reason}.",
    ]
    shown = np.array([sweeps[kind].mean_delta for kind in KINDS])
    flat, labels = shown.reshape(3, -1), [str(Head(i, j)) for i, j in np.ndindex(*shown.shape[1:])]
    order = np.argsort(-np.abs(flat).max(0), kind="stable")[:24]
    words: dict[str, Any] = {
        "title": f"Head ablation · {name} · {task} · n = {len(ranked_on)}",
        "subtitle": "the 24 heads that matter most by any ablation, ablated one at a time at every position",
        "scale": "change of the logit difference (logits)",
        "x_title": "layer.head",
        "y_title": "ablation",
        "note": "Grey: no value.",
    }
    both = (flat[:, order], [labels[i] for i in order], list(KINDS))
    figures_of = {"ablations": plotly_charts.heatmap(*both, **words)}
    pictures_of = {"ablations": matplotlib_charts.heatmap(*both, **words)}
    return Report(
        verdict=verdict,
        summary="\n".join(lines),
        tables={
            "heads_ablated": heads,
            "agreement": agreement,
            "curve": curve,
            "summary": pd.DataFrame(
                [
                    {"quantity": "area between the curves", "value": area["area"], "low": area["area_low"]}
                    | {"high": area["area_high"], "n": len(measured)}
                ]
            ),
        },
        figures=figures_of,
        pictures=pictures_of,
        facts={"data": {"ranked_on": fingerprint(ranked_on), "measured": fingerprint(measured)}},
    )


finding = Finding(
    name="head-ablation",
    title="Ablating every head three ways",
    question="Which heads does the task need, and do zero, mean and resample ablation say the same?",
    claim=(
        "The heads that one set of prompts ranks as relevant matter on another: ablating them first takes away more "
        "than ablating the least relevant ones first, and the three ablations rank heads alike."
    ),
    thresholds={
        "lower end of the area between the least-first and the most-first curve, above": "0",
        "lower end of every rank correlation between two ablations, above": AGREE,
    },
    run=run,
    defaults={"task": "ioi", "n": 25, "seed": 0, "points": 10, "random_orders": 3},
    full={"n": 50, "points": 16, "random_orders": 10},
    source="Michel, Levy & Neubig, NeurIPS 2019, arXiv 1905.10650; Wang et al., ICLR 2023, arXiv 2211.00593",
)
