"""`sweep_sets`: sets of edits, each made as a whole and measured by a metric on the same inputs, in one climb a
prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from workbench.cache import store_of
from workbench.core import Edit, Head
from workbench.errors import UsageError
from workbench.inputs.paired import Group, PairedInputs
from workbench.patching.batches import BATCH_SIZE
from workbench.patching.cone import EditedRun
from workbench.patching.edits import Edits
from workbench.patching.memory import keep_freed_memory
from workbench.patching.metric import Metric, check_metric
from workbench.patching.progress import Progress, ProgressCounter
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import model_identity, resolve_inputs, resolve_model, result_info
from workbench.patching.result_cache import Kept, hash_inputs
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
    metric: str | Metric | Callable[..., Tensor] = "logit_difference",
    mean_over: Any = None,
    seed: int = 0,
    memory_gb: float = 1.0,
    cache: Any = None,
    progress: Progress | None = None,
) -> Sweep:
    """Make each set of edits at once, one set after the other: ``values[set, example]``.

    Each value equals the metric of a full forward with all edits of the set (exact, see the contract). All sets of a
    prompt climb together, and each is resumed from its lowest edited layer and its first edited position.

    Args:
        model: a `HookedLM`, or any `ResumableModel`.
        task: a task, pairs, or tokenised `PairedInputs`.
        sets: name → edits; a `Head` stands for `edit` of its z at every position. An empty set is the unedited run.
        edit: what is done to heads: ``mean``, ``zero``, ``resample`` or ``patch``.
        base: which run of a pair is edited: ``"clean"`` or ``"corrupt"``; ``patch`` takes its values from the other.
        metric: as in `workbench.sweep`.
        mean_over: inputs that ``mean`` edits average over (the inputs themselves by default), or ``"positions"``.
        seed: of ``resample`` edits.
        memory_gb: the most memory that the edited rows may take at once.
        cache: None for the user's own cache, False for none, or a folder. Callable edits and metrics are not kept.
        progress: called with (edited runs done, total, what).

    Raises:
        UnknownName: no such site or metric.
        UsageError: no sets, a head or layer that does not exist, or arguments that do not go together.
    """
    resumable, prepared, metric_name = resolve_model(model), resolve_inputs(task, model), metric
    if base not in ("clean", "corrupt"):
        raise UsageError(f"base={base!r}: use 'clean' or 'corrupt'.")
    if not sets:
        raise UsageError("sets is empty: give a mapping from a name to the heads or edits of that set.")
    metric = check_metric(metric, prepared)
    inputs = prepared if base == "clean" else prepared.swapped()
    chosen = {name: tuple(_edit(item, edit) for item in items) for name, items in sets.items()}
    distinct = list(dict.fromkeys(item for items in chosen.values() for item in items))
    members = [[distinct.index(item) for item in items] for items in chosen.values()]
    store, named = store_of(cache), isinstance(metric_name, str) and all(isinstance(e.kind, str) for e in distinct)
    identity = model_identity(resumable, store) if named else None
    edits = Edits.of(Recorder(resumable, store, identity), inputs, distinct, mean_over, seed, model)
    patches = any(item.kind == "patch" for item in distinct)
    done = ProgressCounter(len(chosen) * len(inputs), "sets of edits", progress)
    result = np.empty((len(inputs), 2 + len(chosen)))

    def compute(group: Group) -> Float[np.ndarray, "prompt value"]:
        batch = SweepBatch(resumable, inputs, group, inputs.clean, metric, "z", (), memory_gb)
        source = [np.nan] * len(group.members)
        if patches:
            other = SweepBatch(resumable, inputs.swapped(), group, inputs.corrupt, metric, "z", (), memory_gb)
            source = other.base_scores
        return np.column_stack([batch.base_scores, source, _scores(batch, group, edits, members, done)])

    def take(group: Group, values: np.ndarray, computed: bool) -> None:
        result[list(group.members)] = values
        if not computed:
            done(len(chosen) * len(group.members))

    asked = [[(e.site, e.layer, e.step, e.head, e.position, e.kind, _weights(e)) for e in s] for s in chosen.values()]
    others = (seed, hash_inputs(inputs), _over(edits.mean_over)) if identity is not None else ()
    arguments = (asked, base, metric.name, memory_gb, *others) if identity is not None else ()
    Kept(store, identity, inputs, "sets", *arguments).each(inputs.groups(BATCH_SIZE), compute, take)
    info = result_info(model, prepared) | {
        "by": ["set"],
        "edit": edit,
        "sets": {
            name: [str(item) if isinstance(item, Head) else _words(item) for item in chosen[name]] for name in sets
        },
        "base": base,
        "direction": "noise" if base == "clean" else "denoise",
        "metric": metric.name,
        "units": metric.units,
        "memory_gb": memory_gb,
    }
    return Sweep(
        values=result[:, 2:].T,
        base=result[:, 0],
        source=result[:, 1] if patches else None,
        axes=("set",),
        labels={"set": tuple(chosen)},
        info=info,
    )


def _scores(
    batch: SweepBatch, group: Group, edits: Edits, sets: Sequence[Sequence[int]], done: Callable[[int], object]
) -> Float[np.ndarray, "prompt set"]:
    scores = np.repeat(np.array(batch.base_scores)[:, None], len(sets), 1)
    rows, where, starts = [], [], []
    for k, i in enumerate(group.members):
        writes = edits.row(i).writes
        for s, which in enumerate(sets):
            if which:
                rows.append(EditedRun(k, tuple(writes[w] for w in which)))
                where.append((k, s))
                first = [_first(edits.edits[w].kind, writes[w].position, group) for w in which]
                starts.append(min(first) if batch.resumable.causal else 0)
    done(scores.size - len(rows))
    for start in sorted(set(starts)):
        mine = [j for j, at in enumerate(starts) if at == start]
        for j, score in zip(mine, batch.run_edited([rows[j] for j in mine], start, done), strict=True):
            scores[where[j]] = score
    return scores


def _first(kind: object, position: int | None, group: Group) -> int:
    """The first position that an edit can change."""
    earliest = group.first_difference if kind == "patch" else 0
    return earliest if position is None else max(position, earliest)


def _edit(item: Head | Edit, kind: str) -> Edit:
    if isinstance(item, Head):
        return Edit("z", item.layer, item.index, kind=kind)
    if not isinstance(item, Edit):
        raise UsageError(f"sets: {item!r} is neither a wb.Head nor a wb.Edit.")
    return item


def _weights(edit: Edit) -> Any:
    return sorted(edit.attend_to.items(), key=str) if isinstance(edit.attend_to, Mapping) else edit.attend_to


def _over(mean_over: PairedInputs | str | None) -> Any:
    return mean_over if mean_over is None or isinstance(mean_over, str) else hash_inputs(mean_over)


def _words(edit: Edit) -> str:
    kind = edit.kind if isinstance(edit.kind, str) else getattr(edit.kind, "__name__", "function")
    where = f"{edit.layer}" if edit.head is None else str(Head(edit.layer, edit.head))
    return f"{kind} {edit.site} {where}" + ("" if edit.position is None else f" at {edit.position}")
