"""`sweep`: many edits, one at a time, each measured by a metric on the same inputs, exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache as cache_in_process
from typing import Any

import numpy as np
from torch import Tensor

from workbench.cache import store_of
from workbench.inputs.paired import Group
from workbench.patching.measure import Measurement, measure
from workbench.patching.memory import keep_freed_memory
from workbench.patching.metric import Metric
from workbench.patching.notice import notice_nan
from workbench.patching.plan import Plan
from workbench.patching.progress import Progress, ProgressCounter
from workbench.patching.settings import SweepSettings
from workbench.patching.values import Values
from workbench.results.sweep import Sweep


@keep_freed_memory()
def sweep(
    model: Any,
    task: Any,
    *,
    site: str = "z",
    by: str | Sequence[str] = "head",
    edit: str | Callable[[Tensor], Tensor] = "patch",
    direction: str | None = None,
    metric: str | Metric | Callable[..., Tensor] | None = None,
    layers: Sequence[int] | int | None = None,
    heads: Sequence[int] | int | None = None,
    positions: Sequence[int | str] | int | str | None = None,
    attend_to: Any = None,
    factor: float | None = None,
    vector: Tensor | None = None,
    u: float | None = None,
    mean_over: Any = None,
    steps: Sequence[int] | int | None = None,
    where: np.ndarray | None = None,
    seed: int = 0,
    memory_gb: float = 1.0,
    cache: Any = None,
    progress: Progress | None = None,
) -> Sweep:
    """Edit one site at a time and measure every example: ``values[layer, head, example]``.

    Each value equals the metric of a full forward with that one edit (exact, see the contract); only what the edit can
    change is computed (`workbench.patching.cone`).

    Args:
        model: a `HookedLM`, or any `ResumableModel`.
        task: a task, pairs, or tokenised `PairedInputs`.
        site: a short site name, or a hook name inside a block.
        by: axes of the sweep besides the layer: ``"head"``, ``"position"``, both, or ``"layer"`` alone; and ``"step"``
            where the model runs its layers in several sampling steps. The axes come in the order step, layer, head,
            position. Without ``"step"`` one edit is made in every step at once.
        edit: ``patch``, ``zero``, ``mean``, ``resample``, ``scale``, ``add``, ``pattern``, ``identity`` (see
            `workbench.core.Edit`), or a function of one input's activation.
        direction: for ``patch``: ``denoise`` (the corrupt run with clean values; the default) or ``noise`` (the clean
            run with corrupt values). The other edits' base is the clean run, and they take no direction but noise.
        metric: a name of `METRICS`, or ``f(logits [row, d_vocab], example) -> [row]``, at least in float32. By default
            ``logit_difference`` for logits (of samples with one class ``answer_probability``, with none
            ``kl_divergence``), ``image_distance`` for pixels, ``feature_cosine`` for features.
        layers, heads: which ones; all by default.
        positions: names or indices. Without ``by="position"`` all of them are edited at once (by default every
            position); with it they are the axis: by default the task's named positions, or every index where the task
            has none; ``"all"`` selects every index.
        attend_to, factor, vector, u: for ``edit="pattern"``, ``"scale"``, ``"add"`` and ``"identity"``, see
            `workbench.core.Edit`. Every cell gets the same.
        mean_over: for ``edit="mean"``: other inputs, or ``"positions"``.
        steps: the sampling steps that are edited, at once or (``by="step"``) one at a time; all by default.
        where: which cells of the grid (every axis but the examples) are run; the others are blank. All by default.
        seed: of resampling.
        memory_gb: the most memory that the edited runs may take at once; a smaller limit means smaller chunks.
        cache: None for the user's own cache, False for none, or a folder. Callable edits and metrics are not cached.
        progress: called with (edited runs done, total, what) after each chunk of them.

    Raises:
        UnknownName: no such site, edit, metric or position.
        UsageError: arguments that do not go together.

    Examples:
        >>> model = wb.load("tiny")
        >>> sweep = wb.sweep(model, wb.task("ioi", n=6, seed=0))
        >>> sweep.values.shape, str(sweep.top(1)[0])  # [layer, head, example]
        ((2, 8, 6), '0.7')
        >>> halved = wb.sweep(model, wb.task("ioi", n=6, seed=0), edit="scale", factor=0.5)
        >>> halved.info["edit"], halved.info["factor"]
        ('scale', 0.5)
    """
    settings = SweepSettings(
        site=site,
        by=by,
        edit=edit,
        direction=direction,
        metric=metric,
        layers=layers,
        heads=heads,
        positions=positions,
        attend_to=attend_to,
        factor=factor,
        vector=vector,
        u=u,
        mean_over=mean_over,
        steps=steps,
        where=where,
        seed=seed,
        memory_gb=memory_gb,
    )
    store = store_of(cache)
    plan = Plan.of(model, task, settings, store)
    cells, inputs = plan.cells, plan.inputs
    counter = ProgressCounter(len(cells) * len(inputs), "sweep", progress)

    @cache_in_process
    def values() -> Values:
        """Recorded for the first batch that is not in the result cache."""
        return plan.values(store)

    def compute(group: Group) -> Measurement:
        batch = plan.batch(group)
        source = np.full(len(group.members), np.nan)
        if edit == "patch":
            source[:] = batch.insert_from(plan.source_ids)
        else:
            batch.insert(values())
        edited, skipped = batch.run(cells, plan.shared_positions, counter)
        return Measurement(np.array(batch.base_scores), source, edited, skipped)

    measurement = measure(
        inputs,
        len(cells),
        compute,
        causal=plan.resumable.causal,
        results=plan.results(store),
        progress=counter,
        steps_per_example=len(cells),
    )
    if np.isnan(measurement.edited).any():
        notice_nan([edit])
    return plan.sweep(measurement, cells=len(cells) * len(inputs), skipped_cells=round(measurement.skipped))
