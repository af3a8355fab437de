"""What steps in when the movers are ablated: backup heads, and how much of the logit difference they make up for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

import workbench as wb
from workbench.core import Edit, Head
from workbench.findings import Study
from workbench.head_scores.on_task import task_scores
from workbench.inputs.paired import PairedInputs
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import resolve_model

from ..ablation import damage
from ..distinct import random_like

FREE, FROZEN, CONTROL = "movers ablated", "movers ablated, backup frozen", "movers ablated, random heads frozen"
#: Fewer prompts cannot be halved into some to find the heads and some to measure.
FEWEST = 4


@dataclass(frozen=True)
class Backup:
    """The share of the logit difference lost under each set of edits (`lost`), and the backup heads (`heads`).

    Both tables are empty where there are no movers, or too few prompts.
    """

    lost: pd.DataFrame = field(default_factory=pd.DataFrame)
    heads: pd.DataFrame = field(default_factory=pd.DataFrame)

    def in_words(self) -> list[str]:
        """Lines of the summary."""
        if not len(self.lost):
            return []
        rises = ", ".join(f"{row['head']} ({row['rise']:+z.2f})" for row in self.heads.to_dict("records"))
        return [
            "",
            "Share of the logit difference that is lost (95 % interval), on other prompts",
            *(
                f"  {row['edits']:<40} {row['lost']:z.2f} [{row['low']:z.2f}, {row['high']:z.2f}]"
                for row in self.lost.to_dict("records")
            ),
            f"  Backup heads (rise of the direct logit attribution): {rises}",
        ]


def measure_backup(
    study: Study, pairs: PairedInputs, reference: PairedInputs, movers: Collection[Head], backups: int, random_sets: int
) -> Backup:
    """Find the backup heads on half of the prompts, and measure what they make up for on the other half.

    Args:
        reference: prompts that the means are taken over.
        backups: how many heads: those whose direct logit attribution rises most when the movers are ablated.
        random_sets: of as many random heads of the same layers, frozen instead (the control).
    """
    if not movers or len(pairs) < FEWEST:
        return Backup()
    half = len(pairs) // 2
    movers = sorted(movers)
    ablated = [Edit("z", head.layer, head.index, kind="mean") for head in movers]
    rise = _rise(study, pairs.of(range(half)), reference, ablated)
    rise[tuple(np.array([(head.layer, head.index) for head in movers]).T)] = -np.inf
    largest = np.argsort(-rise, axis=None, kind="stable")[:backups]
    heads = [Head(int(i), int(j)) for i, j in zip(*np.unravel_index(largest, rise.shape), strict=True)]
    # Frozen to the unedited run: "patch" from a pair whose other run is the very same prompt.
    measured = pairs.of(range(half, len(pairs)))
    measured = replace(measured, corrupt=tuple(ids.clone() for ids in measured.clean))
    sets = {FREE: ablated, FROZEN: [*ablated, *_frozen(heads)]}
    controls = random_like(frozenset(heads), study.model.n_heads, random_sets, study.seed)
    for k, others in enumerate(dict.fromkeys(others - set(movers) for others in controls)):  # movers stay ablated
        sets[f"{CONTROL}, {k}"] = [*ablated, *_frozen(sorted(others))]
    progress = study.step("ablating the movers")
    sweep = wb.sweep_sets(study.model, measured, sets, mean_over=reference, progress=progress)
    values = dict(zip(sweep.labels["set"], sweep.values, strict=True))
    lost = {label: damage(sweep.base, edited) for label, edited in values.items()}
    lost["made up by the backups"] = damage(sweep.base, sweep.base - (values[FREE] - values[FROZEN]))
    table = pd.DataFrame({"edits": label, **share.columns("lost", "")} for label, share in lost.items())
    listed = pd.DataFrame(
        {"head": str(head), "layer": head.layer, "index": head.index, "rise": float(rise[head.layer, head.index])}
        for head in heads
    )
    return Backup(table.assign(n=sweep.n), listed.assign(n=half))


def _frozen(heads: Collection[Head]) -> list[Edit]:
    return [Edit("z", head.layer, head.index, kind="patch") for head in heads]


def _rise(study: Study, pairs: PairedInputs, reference: PairedInputs, edits: list[Edit]) -> np.ndarray:
    """How much each head's direct logit attribution rises under the edits, ``[layer, head]``, in logits."""
    recorder = Recorder(resolve_model(study.model))
    before = task_scores(study.model, recorder, pairs, reading_out=0).attribution
    after = task_scores(study.model, recorder, pairs, edits, reference, reading_out=0).attribution
    return (after - before).mean(0)
