"""`sweep`: many edits, one at a time, each measured by a metric on the same inputs, exactly, in one climb a prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache as cache_in_process
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from workbench.cache import store_of
from workbench.errors import UnknownName, UsageError
from workbench.inputs import Group, PairedInputs
from workbench.patching.batches import UNIT
from workbench.patching.context import describe, identity_of, inputs_of, tower_of
from workbench.patching.kept import Kept, of_inputs
from workbench.patching.memory import reused
from workbench.patching.metrics import Metric, metric_of
from workbench.patching.progress import Progress, Tally
from workbench.patching.recorder import Recorder
from workbench.patching.sites import has_heads, has_kv_heads
from workbench.patching.tower import Tower
from workbench.patching.unit import Cell, Unit
from workbench.patching.values import Values, values_of
from workbench.results import Sweep
from workbench.vocabulary import EDIT_KINDS, SITES

AXES = ("layer", "head", "position")


@reused()
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
    over: Any = None,
    seed: int = 0,
    memory_gb: float = 1.0,
    cache: Any = None,
    progress: Progress | None = None,
) -> Sweep:
    """Edit one site at a time and measure every example: ``values[layer, head, example]``.

    Each value equals the metric of a full forward with that one edit (exact, see the contract); only what the edit can
    change is computed (`workbench.patching.cone`).

    Args:
        model: a `HookedLM`, or any `Tower`.
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
        attend_to: for ``edit="pattern"``, see `workbench.vocabulary.Edit`.
        over: for ``mean``: other inputs, or ``"positions"``.
        seed: of resampling.
        memory_gb: the most memory that the edited rows may take at once; a smaller limit means smaller chunks.
        cache: None for the user's own cache, False for none, or a folder. Callable edits and metrics are not kept.
        progress: called with (edited runs done, total, what) after each chunk of them.

    Raises:
        UnknownName: no such site, edit, metric or position.
        UsageError: arguments that do not go together.
    """
    tower, inputs, metric_name = tower_of(model), inputs_of(task, model), metric
    metric = metric_of(metric)
    tower.hook_name(site, 0)  # an unknown site is said to be that, before anything is said of its axes
    axes = _axes(by, site, edit)
    if direction not in ("denoise", "noise", None):
        raise UnknownName("direction", direction, ("denoise", "noise"))
    if direction == "denoise" and edit != "patch":
        raise UsageError("direction='denoise' inserts clean values, so it belongs to edit='patch': leave it out.")
    direction = direction or ("denoise" if edit == "patch" else "noise")
    denoise = direction == "denoise"
    base_ids, source_ids = (inputs.corrupt, inputs.clean) if denoise else (inputs.clean, inputs.corrupt)
    cells, labels = _cells(tower, inputs, site, axes, layers, heads, positions)
    stages = sorted({cell.stage for cell in cells})
    if isinstance(over, str) and over != "positions":
        raise UsageError(f"over={over!r}: give inputs whose activations are averaged, or 'positions'.")
    over = over if over is None or over == "positions" else inputs_of(over, model)
    whole = positions if positions is not None and "position" not in axes else None
    done = Tally(len(cells) * len(inputs), "sweep", progress)
    store, named = store_of(cache), isinstance(edit, str) and isinstance(metric_name, str)
    identity = identity_of(tower, store) if named else None

    @cache_in_process
    def values() -> Values:
        """Taken for the first unit that is not in the cache."""
        recorder = Recorder(tower, store, identity)
        return values_of(edit, recorder, inputs, site, stages, attend_to=attend_to, over=over, seed=seed)

    def compute(group: Group) -> Float[np.ndarray, "prompt value"]:
        unit = Unit(tower, inputs, group, base_ids, metric, site, stages, memory_gb)
        source = np.full(len(group.members), np.nan)
        if edit == "patch":
            source[:] = unit.take_from(source_ids)
        else:
            unit.take(values())
        scores, skipped = unit.run(cells, whole, done)
        return np.column_stack([unit.base_scores, source, np.full(len(source), skipped / len(source)), scores])

    rows = np.empty((len(inputs), 3 + len(cells)))

    def take(group: Group, values: np.ndarray, computed: bool) -> None:
        rows[list(group.members)] = values
        if not computed:
            done(len(cells) * len(group.members))

    asked = (site, [(c.stage, c.head, c.place) for c in cells], edit, denoise, metric.name, whole, memory_gb)
    others = _others(edit, inputs, over, seed, attend_to) if identity is not None else ()
    Kept(store, identity, inputs, "sweep", *(asked if identity is not None else ()), *others).each(
        inputs.groups(UNIT), compute, take
    )
    base_scores, source_scores, skipped = rows[:, 0], rows[:, 1], round(rows[:, 2].sum())
    result = np.empty((*(len(labels[axis]) for axis in labels), len(inputs)))
    for cell, each in zip(cells, rows[:, 3:].T, strict=True):
        result[cell.index] = each
    info = describe(model, inputs) | {
        "site": site,
        "by": list(axes),
        "edit": edit if isinstance(edit, str) else getattr(edit, "__name__", "function"),
        "direction": direction,
        "metric": metric.name,
        "units": metric.units,
        "positions": list(positions) if isinstance(positions, list | tuple) else positions,
        "cells": len(cells) * len(inputs),
        "skipped_cells": skipped,
        "memory_gb": memory_gb,
    }
    return Sweep(
        values=result,
        base=base_scores,
        source=source_scores if edit == "patch" else None,
        axes=tuple(labels),
        labels=labels,
        info=info,
    )


def _others(
    edit: object, inputs: PairedInputs, over: PairedInputs | str | None, seed: int, attend_to: Any
) -> tuple[Any, ...]:
    """What the values of an edit depend on besides the unit's own prompts, for its key."""
    if edit == "mean":
        return ("over", over if isinstance(over, str) else of_inputs(inputs if over is None else over))
    if edit == "resample":
        return ("among", seed, of_inputs(inputs))
    return ("to", sorted(attend_to.items(), key=str) if isinstance(attend_to, Mapping) else attend_to)


def _axes(by: str | Sequence[str], site: str, edit: object) -> tuple[str, ...]:
    asked = {by} if isinstance(by, str) else set(by)
    if unknown := asked - set(AXES):
        raise UnknownName("axis", min(unknown), AXES)
    if "head" in asked and not has_heads(site) and (site in SITES or "hook_" in site):
        raise UsageError(f"Site {site!r} has no heads: use by='layer' or by='position'.")
    if isinstance(edit, str) and edit not in EDIT_KINDS:
        raise UnknownName("edit", edit, EDIT_KINDS)
    if edit == "pattern" and site != "pattern":
        raise UsageError(f"edit='pattern' needs site='pattern', not {site!r}.")
    return tuple(axis for axis in AXES if axis in asked | {"layer"})


def _cells(
    tower: Tower,
    inputs: PairedInputs,
    site: str,
    axes: tuple[str, ...],
    layers: Sequence[int] | int | None,
    heads: Sequence[int] | int | None,
    positions: Sequence[int | str] | str | None,
) -> tuple[list[Cell], dict[str, tuple[str, ...]]]:
    kv = has_kv_heads(site)
    n_heads = tower.n_kv_heads if kv else tower.n_heads
    chosen_layers = range(tower.n_layers) if layers is None else _within(layers, tower.n_layers, "layer")
    chosen_heads: list[int | None] = [None]
    if "head" in axes:
        chosen_heads = list(range(n_heads) if heads is None else _within(heads, n_heads, "KV head" if kv else "head"))
    chosen_places: list[int | str | None] = [None]
    if "position" in axes:
        chosen_places = list(named_positions(inputs, positions))
    for layer in chosen_layers:
        tower.hook_name(site, layer)
    steps = range(tower.n_steps)
    labels: dict[str, tuple[str, ...]] = {"step": tuple(map(str, steps))} if len(steps) > 1 else {}
    labels["layer"] = tuple(map(str, chosen_layers))
    if "head" in axes:
        labels["kv_head" if kv else "head"] = tuple(map(str, chosen_heads))
    if "position" in axes:
        labels["position"] = tuple(map(str, chosen_places))
    cells = []
    for (s, step), (i, layer), (j, head), (k, place) in product(
        enumerate(steps), enumerate(chosen_layers), enumerate(chosen_heads), enumerate(chosen_places)
    ):
        index = [i] if len(steps) == 1 else [s, i]
        index += [j] * ("head" in axes) + [k] * ("position" in axes)
        cells.append(Cell(tuple(index), step * tower.n_layers + layer, head, place))
    return cells, labels


def named_positions(inputs: PairedInputs, asked: Sequence[int | str] | str | None) -> Sequence[int | str]:
    """The position axis: what was asked for, the named positions all prompts share, or every index."""
    if asked is not None and asked != "all":
        return [asked] if isinstance(asked, str) else list(asked)
    shared: set[str] = set.intersection(*(set(named) for named in inputs.positions)) if len(inputs) else set()
    if asked is None and shared - {"end"}:
        return sorted(shared, key=inputs.positions[0].__getitem__)
    lengths = sorted({len(ids) for ids in inputs.clean})
    if len(lengths) > 1:
        raise UsageError(
            f"These prompts have {', '.join(map(str, lengths))} tokens and no shared named positions, so a position "
            "axis has no meaning: give positions=[...] by name, or prompts of one length."
        )
    return range(lengths[0])


def _within(chosen: Sequence[int] | int, size: int, what: str) -> list[int]:
    chosen = [chosen] if isinstance(chosen, int) else chosen
    for index in chosen:
        if not 0 <= index < size:
            raise UsageError(f"{what} {index} does not exist: the model has {what}s 0 to {size - 1}.")
    return list(chosen)
