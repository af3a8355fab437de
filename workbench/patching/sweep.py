"""`sweep`: many edits, one at a time, each measured by a metric on the same inputs, exactly, in one climb a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache as cache_in_process
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from workbench.cache import store_of
from workbench.inputs.paired import Group
from workbench.patching.batches import BATCH_SIZE
from workbench.patching.memory import keep_freed_memory
from workbench.patching.metric import Metric
from workbench.patching.plan import Plan
from workbench.patching.progress import Progress, ProgressCounter
from workbench.patching.result_cache import Kept
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
    metric: str | Metric | Callable[..., Tensor] = "logit_difference",
    layers: Sequence[int] | int | None = None,
    heads: Sequence[int] | int | None = None,
    positions: Sequence[int | str] | str | None = None,
    attend_to: Any = None,
    mean_over: Any = None,
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
        by: axes of the sweep besides the layer: ``"head"``, ``"position"``, both, or ``"layer"`` alone.
        edit: ``patch``, ``zero``, ``mean``, ``resample``, ``pattern``, or a function of one prompt's activation.
        direction: for ``patch``: ``denoise`` (the corrupt run with clean values; the default) or ``noise`` (the clean
            run with corrupt values). The other edits' base is the clean run, and they take no direction but noise.
        metric: a name of `METRICS`, or ``f(logits [row, d_vocab], example) -> [row]``.
        layers, heads: which ones; all by default.
        positions: names or indices. Without ``by="position"`` all of them are edited at once (by default every
            position); with it they are the axis: by default the task's named positions, or every index where the task
            has none; ``"all"`` asks for every index.
        attend_to: for ``edit="pattern"``, see `workbench.core.Edit`.
        mean_over: for ``mean``: other inputs, or ``"positions"``.
        where: which cells of the grid (every axis but the examples) are run; the others are blank. All by default.
        seed: of resampling.
        memory_gb: the most memory that the edited rows may take at once; a smaller limit means smaller chunks.
        cache: None for the user's own cache, False for none, or a folder. Callable edits and metrics are not kept.
        progress: called with (edited runs done, total, what) after each chunk of them.

    Raises:
        UnknownName: no such site, edit, metric or position.
        UsageError: arguments that do not go together.
    """
    plan = Plan.of(
        model,
        task,
        site=site,
        by=by,
        edit=edit,
        direction=direction,
        metric=metric,
        layers=layers,
        heads=heads,
        positions=positions,
        attend_to=attend_to,
        mean_over=mean_over,
        where=where,
        seed=seed,
        memory_gb=memory_gb,
    )
    store, cells, inputs = store_of(cache), plan.cells, plan.inputs
    identity = plan.identity(store)
    done = ProgressCounter(len(cells) * len(inputs), "sweep", progress)

    @cache_in_process
    def values() -> Values:
        """Taken for the first batch that is not in the cache."""
        return plan.values(store)

    def compute(group: Group) -> Float[np.ndarray, "prompt value"]:
        batch = plan.batch(group)
        source = np.full(len(group.members), np.nan)
        if edit == "patch":
            source[:] = batch.take_from(plan.source_ids)
        else:
            batch.take(values())
        scores, skipped = batch.run(cells, plan.shared_positions, done)
        return np.column_stack([batch.base_scores, source, np.full(len(source), skipped / len(source)), scores])

    rows = np.empty((len(inputs), 3 + len(cells)))

    def take(group: Group, values: np.ndarray, computed: bool) -> None:
        rows[list(group.members)] = values
        if not computed:
            done(len(cells) * len(group.members))

    asked = plan.asked() if identity is not None else ()
    Kept(store, identity, inputs, "sweep", *asked).each(inputs.groups(BATCH_SIZE), compute, take)
    return plan.sweep(np.delete(rows, 2, axis=1), cells=len(cells) * len(inputs), skipped_cells=round(rows[:, 2].sum()))
