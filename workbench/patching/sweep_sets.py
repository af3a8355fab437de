"""`sweep_sets`: sets of edits, each applied at once and measured by a metric on the same inputs, in one pass
through the layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from workbench.arguments import instance, mapping, refusal, sequence
from workbench.cache import store_of
from workbench.cache.keys import hash_inputs
from workbench.cache.result_cache import ResultCache
from workbench.core import Edit, Head, describe_edit
from workbench.inputs.paired import Group, PairedInputs
from workbench.patching.batches import BATCH_SIZE
from workbench.patching.cone import EditedRun, first_changed, is_pattern
from workbench.patching.edits import Edits, argument_key, steps_key
from workbench.patching.measure import Measurement, measure
from workbench.patching.memory import keep_freed_memory
from workbench.patching.metric import Metric, metric_for
from workbench.patching.notice import notice_nan
from workbench.patching.progress import Progress, ProgressCounter
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import (
    model_identity,
    resolve_inputs,
    resolve_mean_over,
    resolve_model,
    resolve_proven,
    result_info,
)
from workbench.patching.settings import SetSettings
from workbench.patching.sweep_batch import SweepBatch
from workbench.results.sweep import Sweep


@keep_freed_memory()
def sweep_sets(
    model: Any,
    task: Any,
    sets: Mapping[str, Iterable[Head | Edit]],
    *,
    edit: str = "mean",
    base: str = "clean",
    metric: str | Metric | Callable[..., Tensor] | None = None,
    factor: float | None = None,
    vector: Tensor | None = None,
    mean_over: Any = None,
    seed: int = 0,
    memory_gb: float = 1.0,
    cache: Any = None,
    progress: Progress | None = None,
) -> Sweep:
    """Apply each set of edits at once, one set at a time: ``values[set, example]``.

    Each value equals the metric of a full forward with all edits of the set (exact, see the contract). Each is
    resumed from its lowest edited layer and its first edited position.

    Args:
        model: a `HookedLM`, or any `ResumableModel`.
        task: a task, pairs, or tokenised `PairedInputs`.
        sets: name → edits; a `Head` stands for `edit` of its z at every position. An empty set is the unedited run.
        edit: what is done to heads: ``mean``, ``zero``, ``resample``, ``patch``, ``scale`` or ``add``.
        base: which run of a pair is edited: ``"clean"`` or ``"corrupt"``; ``patch`` takes its values from the other.
        metric: as in `workbench.sweep`.
        factor, vector: for ``edit="scale"`` and ``edit="add"``, see `workbench.core.Edit`; every head gets the same.
        mean_over: inputs that ``mean`` edits average over (the inputs themselves by default), or ``"positions"``.
        seed: of ``resample`` edits.
        memory_gb: the most memory that the edited runs may take at once.
        cache: None for the user's own cache, False for none, or a folder. Callable edits and metrics are not cached.
        progress: called with (edited runs done, total, what).

    Raises:
        UnknownName: no such site or metric.
        UsageError: no sets, a head or layer that does not exist, or arguments that do not go together.

    Examples:
        >>> model = wb.load("tiny")
        >>> sets = {"two heads": [wb.Head(0, 7), wb.Head(1, 3)], "none": []}
        >>> wb.sweep_sets(model, wb.task("ioi", n=6), sets).values.shape  # [set, example]
        (2, 6)
    """
    resumable, task_inputs, store = resolve_model(model), resolve_inputs(task, model), store_of(cache)
    settings = SetSettings(edit, base, metric, resolve_mean_over(mean_over, model), seed, memory_gb, factor, vector)
    edits_of = _edits_by_set(sets, {"kind": edit, "factor": settings.factor, "vector": settings.vector})
    inputs = task_inputs if base == "clean" else task_inputs.swapped()
    resolved_metric = metric_for(metric, task_inputs, model)
    settings = replace(settings, metric=resolved_metric.name if metric is None else metric)
    distinct = list(dict.fromkeys(item for items in edits_of.values() for item in items))
    members = [[distinct.index(item) for item in items] for items in edits_of.values()]
    patches = any(item.kind == "patch" for item in distinct)
    resumable = resolve_proven(model, inputs, store, patterns=any(is_pattern(item.site) for item in distinct))

    cacheable = settings.is_cacheable and all(isinstance(item.kind, str) for item in distinct)
    identity = model_identity(resumable, store) if cacheable else None
    edits = Edits.of(Recorder(resumable, store, identity), inputs, distinct, settings.mean_over, seed, model)
    results = ResultCache(None, None)
    if identity is not None:
        key = [[_edit_key(item, resumable.n_steps) for item in items] for items in edits_of.values()]
        results = ResultCache(store, identity, BATCH_SIZE, "sets", key, settings.cache_key(), hash_inputs(inputs))
    counter = ProgressCounter(len(edits_of) * len(inputs), "sets of edits", progress)

    def compute(group: Group) -> Measurement:
        def batch(inputs: PairedInputs) -> SweepBatch:
            return SweepBatch(resumable, inputs, group, inputs.clean, resolved_metric, "z", (), memory_gb)

        base_batch = batch(inputs)
        source = np.full(len(group.members), np.nan)
        if patches:
            source[:] = batch(inputs.swapped()).base_scores
        edited = _run_sets(base_batch, group, edits, members, counter)
        return Measurement(np.array(base_batch.base_scores), source, edited, 0)

    measurement = measure(
        inputs,
        len(edits_of),
        compute,
        causal=resumable.causal,
        results=results,
        progress=counter,
        steps_per_example=len(edits_of),
    )
    if np.isnan(measurement.edited).any():
        notice_nan(item.kind for item in distinct)
    info = {
        "by": ["set"],
        "sets": {
            name: [str(item) if isinstance(item, Head) else describe_edit(item) for item in edits_of[name]]
            for name in sets
        },
        "direction": "noise" if base == "clean" else "denoise",
        "units": resolved_metric.units,
        **settings.as_info(),
        "metric": resolved_metric.name,
    }
    return Sweep(
        values=measurement.edited.T,
        base=measurement.base,
        source=measurement.source if patches else None,
        axes=("set",),
        labels={"set": tuple(edits_of)},
        info=result_info(model, task_inputs) | info,
    )


def _run_sets(
    batch: SweepBatch,
    group: Group,
    edits: Edits,
    sets: Sequence[Sequence[int]],
    progress: Callable[[int], object],
) -> Float[np.ndarray, "input set"]:
    """Each input's metric after each set of edits; a set without any is the base run."""
    scores = np.repeat(np.array(batch.base_scores)[:, None], len(sets), 1)
    runs, indices, starts = [], [], []
    for k, i in enumerate(group.members):
        writes = edits.writes(i)
        for s, members in enumerate(sets):
            if members:
                runs.append(EditedRun(k, tuple(write for m in members for write in writes[m])))
                indices.append((k, s))
                first = [_first_changed(edits.edits[m].kind, x.position, group) for m in members for x in writes[m]]
                starts.append(first_changed(batch.resumable, min(first)))
    progress(scores.size - len(runs))
    batch.run_by_start(runs, indices, starts, scores, progress)
    return scores


def _first_changed(kind: object, position: int | None, group: Group) -> int:
    """The first position that an edit can change."""
    earliest = group.first_difference if kind == "patch" else 0
    return earliest if position is None else max(position, earliest)


def _edits_by_set(sets: Any, of_heads: Mapping[str, Any]) -> dict[str, tuple[Edit, ...]]:
    if not mapping("sets", sets, "a mapping from names to heads or edits"):
        raise refusal("sets", sets, "at least one set", "Give a mapping from a name to the heads or edits of that set.")
    what = "a list of wb.Head and wb.Edit"
    lists = {name: sequence(f"sets[{name!r}]", items, what) for name, items in sets.items()}
    return {str(name): tuple(_edit(name, item, of_heads) for item in items) for name, items in lists.items()}


def _edit(name: object, item: Any, of_heads: Mapping[str, Any]) -> Edit:
    if isinstance(item, Head):
        return Edit("z", item.layer, item.index, **of_heads)
    return instance(f"sets[{name!r}]", item, Edit, "wb.Head and wb.Edit")


def _edit_key(edit: Edit, n_steps: int) -> tuple[Any, ...]:
    weights = edit.attend_to
    weights = sorted(weights.items(), key=str) if isinstance(weights, Mapping) else weights
    where = edit.site, edit.layer, steps_key(edit, n_steps), edit.head, edit.position
    return *where, edit.kind, weights, *argument_key(edit)
