"""The edits of a repair (attention rows of a few heads forced onto some tokens), its controls, and what they change."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

import workbench as wb
from workbench import statistics
from workbench.core import Edit, Head
from workbench.findings import Quantity, Study
from workbench.inputs.paired import PairedInputs
from workbench.plotting.charts import Bars
from workbench.results.sweep import Sweep

from .distinct import distinct, random_like
from .stages import Stages, top_receivers

#: Named positions of Colored Objects.
WRONG, RIGHT, END = ("wrong1", "wrong2"), ("color",), "end"
ALL, NO_EDIT, ALONE = "all heads onto the wrong colours", "no edit", " alone"
ONTO_RIGHT, ONTO_RANDOM, RANDOM_HEADS = (
    "all onto the right colour",
    "all onto random tokens",
    "random heads of the same layers",
)


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


def edit_sets(study: Study, pairs: PairedInputs, heads: tuple[Head, ...], random_sets: int) -> dict[str, list[Edit]]:
    """The repair, its controls and each head alone, by name."""
    sets = {ALL: _forced(heads, WRONG), ONTO_RIGHT: _forced(heads, RIGHT)}
    # Counted from the end: the same places in prompts of several lengths, inside the question.
    shortest = min(map(len, pairs.clean))
    rng = random.Random(f"circuit-repair/{study.seed}")
    random_places = distinct(
        lambda: frozenset(rng.sample(range(shortest // 2), 2)),
        lambda: map(frozenset, combinations(range(shortest // 2), 2)),
        math.comb(shortest // 2, 2),
        random_sets,
    )
    for k, places in enumerate(random_places):
        sets[f"{ONTO_RANDOM}, {k}"] = _forced(heads, tuple(-1 - i for i in sorted(places)))
    for k, others in enumerate(random_like(frozenset(heads), study.model.n_heads, random_sets, study.seed)):
        sets[f"{RANDOM_HEADS}, {k}"] = _forced(tuple(sorted(others)), WRONG)
    return sets | {f"{head}{ALONE}": _forced((head,), WRONG) for head in heads}


def accuracy_table(sweeps: Mapping[str, Sweep], sets: Mapping[str, list[Edit]]) -> pd.DataFrame:
    """A row for no edit and for each set: accuracy over the whole vocabulary, and its gain on the same prompts.

    Args:
        sweeps: of the sets, by the metrics accuracy, accuracy_among_options and logit_difference.
    """
    top, among, logits = (sweeps[metric] for metric in ("accuracy", "accuracy_among_options", "logit_difference"))
    rows = []
    for name, after, options, difference in (
        (NO_EDIT, top.base, among.base, logits.base),
        *((name, top.values[i], among.values[i], logits.values[i]) for i, name in enumerate(sets)),
    ):
        rows.append(
            {"edits": name, "heads": len(sets.get(name, ()))}
            | Quantity.proportion(after).columns("accuracy", "")
            | Quantity.mean(after - top.base).columns("gain")
            | {
                "mended": int(((after == 1) & (top.base == 0)).sum()),
                "new_mistakes": int(((after == 0) & (top.base == 1)).sum()),
                "accuracy_among_options": options.mean(),
                "logit_difference": difference.mean(),
                "n": len(after),
            }
        )
    return pd.DataFrame(rows)


def best_row(table: pd.DataFrame, *, alone: bool) -> dict[str, Any]:
    """The most accurate control, or the most accurate head alone."""
    controls = (ONTO_RANDOM, ONTO_RIGHT, RANDOM_HEADS)
    rows = [
        row
        for row in table.to_dict("records")
        if (row["edits"].endswith(ALONE) if alone else row["edits"].startswith(controls))
    ]
    return max(rows, key=lambda row: row["accuracy"])


def attention_shifts(study: Study, pairs: PairedInputs, stages: Stages, edits: list[Edit]) -> pd.DataFrame:
    """What the strongest heads of the stage ``logits`` attend to at the end, after less before the edits."""
    stage = stages.done["logits"]
    edited = {(edit.layer, edit.head) for edit in edits}
    movers = [head for head in stage.sweep.top(k=max(10, len(edits))) if (head.layer, head.index) not in edited]
    layers = sorted({head.layer for head in movers})
    before, after = (
        wb.record(study.model, pairs, ["pattern"], layers, edits=each).clean["pattern"] for each in ((), edits)
    )
    rows = []
    for head in movers:
        shift: dict[str, list[float]] = {"wrong": [], "right": []}
        for i, at in enumerate(pairs.positions):
            old, new = (run[i][layers.index(head.layer), head.index, at[END]] for run in (before, after))
            for name, places in (("wrong", WRONG), ("right", RIGHT)):
                shift[name].append(sum(float(new[at[place]] - old[at[place]]) for place in places))
        row: dict[str, Any] = {"head": str(head), "effect": stage.effect[head.layer, head.index], "n": len(pairs)}
        for name, values in shift.items():
            row |= Quantity.mean(np.array(values)).columns(f"to_{name}")
        rows.append(row)
    return pd.DataFrame(rows)


def in_words(table: pd.DataFrame, shifts: pd.DataFrame, alone: Mapping[str, Any]) -> list[str]:
    """Lines of the summary."""
    follow = statistics.spearman(shifts["effect"].to_numpy(float), -shifts["to_wrong"].to_numpy(float))
    rank = Quantity(follow.rho, follow.low, follow.high)
    return [
        "",
        "Accuracy over the whole vocabulary [95 % interval]; gain on the same prompts; mended and new mistakes",
        *(
            f"  {row['edits']:<40} {quantity(row, 'accuracy', '')}; {quantity(row, 'gain'):+.2f}; "
            f"{row['mended']} mended, {row['new_mistakes']} new"
            for row in table.to_dict("records")
        ),
        f"Alone, {alone['edits'].removesuffix(ALONE)} does best: {quantity(alone, 'gain'):+.2f}.",
        "",
        "Change of the attention of the strongest heads at the last position, when all heads are edited",
        *(
            f"  {row['head']} (effect {row['effect']:+z.2f}): to the wrong colours {quantity(row, 'to_wrong'):+.3f}, "
            f"to the right one {quantity(row, 'to_right'):+.3f}"
            for row in shifts.to_dict("records")
        ),
        f"  Rank correlation of effect with the loss of attention to wrong colours: {rank}, {follow.n} heads.",
    ]


def quantity(row: Mapping[Any, Any], name: str, prefix: str | None = None) -> Quantity:
    """A quantity of a table row, as `Quantity.columns` wrote it."""
    prefix = f"{name}_" if prefix is None else prefix
    return Quantity(row[name], row[f"{prefix}low"], row[f"{prefix}high"])


def chart(table: pd.DataFrame, title: str, subtitle: str) -> Bars:
    """The accuracy under each set of edits, the repair last."""
    rows = table.iloc[::-1]
    value, low, high = (rows[column].to_numpy(float) for column in ("accuracy", "low", "high"))
    return Bars(
        value,
        low,
        high,
        rows["edits"].tolist(),
        title=title,
        subtitle=subtitle,
        scale="accuracy over the whole vocabulary",
        note="95 % Wilson intervals over prompts.",
    )


def _forced(heads: tuple[Head, ...], onto: tuple[int | str, ...]) -> list[Edit]:
    """Each head's attention at the last position, shared evenly by some tokens."""
    return [Edit("pattern", head.layer, head.index, END, "pattern", attend_to=onto) for head in heads]
