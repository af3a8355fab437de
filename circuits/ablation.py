"""What a model loses when the circuit of one task is ablated: on that task, and on another.

A circuit's heads are ablated at every position at once: their z is replaced by its mean over prompts of the measured
task (per named position, else per index within one length). The loss is a share of the task's logit difference,
``damage = mean(base − ablated) / mean(base)``: 0 for none, 1 when nothing of the difference is left, above 1 when it
has changed sign. Beside each circuit stand different random sets with as many heads in each layer, none of them in the
circuit where the layer has enough others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any

import numpy as np
import pandas as pd

from workbench.core import Head
from workbench.findings import Quantity
from workbench.inputs.paired import PairedInputs
from workbench.patching.sweep_sets import sweep_sets
from workbench.results.sweep import Sweep

from .distinct import random_like


def damage(base: np.ndarray, ablated: np.ndarray) -> Quantity:
    """The share of a logit difference that an ablation takes away, ``mean(base − ablated) / mean(base)``; NaN where the
    base's interval holds 0."""
    return Quantity.ratio(base - ablated, base)


def cross_ablation(
    model: Any,
    inputs: Mapping[str, PairedInputs],
    references: Mapping[str, PairedInputs],
    circuits: Mapping[str, Set[Head]],
    *,
    random_sets: int = 5,
    seed: int = 0,
    progress: Callable[[str, int], object] = lambda task, prompts: None,
) -> pd.DataFrame:
    """One row for each circuit and each task that is measured.

    Columns: ``ablated``, ``measured``, ``heads``; ``damage`` with ``low``, ``high``; ``random`` (the mean damage of the
    random sets), ``random_low``, ``random_high`` (the least and the most of them), ``random_sets``; ``beyond_random``
    (damage less the random sets' mean, on the same prompts) with ``beyond_low``, ``beyond_high``; ``n``. Where there
    are fewer than `random_sets` such sets, ``random_sets`` is how many there are; without any, there is no control.

    Args:
        inputs: the tasks that are measured; references: the prompts that means are taken over.
        circuits: the heads to ablate, by the task whose circuit they are.
        progress: called with the measured task and how many of its prompts are finished.
    """
    names: dict[str, Set[Head]] = {}
    controls: dict[str, list[str]] = {}
    for i, (task, heads) in enumerate(circuits.items()):
        names[task] = heads
        others = {
            f"{task}/{k}": other for k, other in enumerate(random_like(heads, model.n_heads, random_sets, seed + i))
        }
        names |= others
        controls[task] = list(others)
    rows = []
    for measured, pairs in inputs.items():

        def tell(done: int, total: int, _: str, measured: str = measured) -> None:
            progress(measured, done // max(1, len(names)))

        sweep = sweep_sets(
            model,
            pairs,
            {name: sorted(heads) for name, heads in names.items()},
            mean_over=references[measured],
            progress=tell,
        )
        rows += [_row(sweep, ablated, measured, len(circuits[ablated]), controls[ablated]) for ablated in circuits]
    return pd.DataFrame(rows)


def _row(sweep: Sweep, ablated: str, measured: str, size: int, controls: list[str]) -> dict[str, Any]:
    at = {name: i for i, name in enumerate(sweep.labels["set"])}
    values, base = sweep.values[at[ablated]], sweep.base
    share = damage(base, values)
    others = np.array([sweep.values[at[name]] for name in controls])
    row = {
        "ablated": ablated,
        "measured": measured,
        "heads": size,
        **share.columns("damage", ""),
        "random_sets": len(controls),
        "n": sweep.n,
    }
    if controls:
        each = [damage(base, other).value for other in others]
        beyond = damage(base, base - others.mean(0) + values)
        row |= {
            "random": float(np.mean(each)),
            "random_low": min(each),
            "random_high": max(each),
            **beyond.columns("beyond_random", "beyond_"),
        }
    return row
