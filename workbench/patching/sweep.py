"""`sweep`: many edits, one at a time, each measured by a metric on the same inputs, exactly, in one climb a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.errors import UnknownName, UsageError
from workbench.inputs import PairedInputs
from workbench.patching.cone import Row, Write, climb, is_pattern, taps_for
from workbench.patching.context import describe, inputs_of, tower_of
from workbench.patching.memory import chunk_for
from workbench.patching.metrics import Example, Metric, metric_of
from workbench.patching.record import Progress, record_site
from workbench.patching.tower import Tower
from workbench.patching.values import Stages, Values, position_of, values_of
from workbench.results import Sweep
from workbench.vocabulary import EDIT_KINDS, HEAD_SITES, KV_SITES, SITES

AXES = ("layer", "head", "position")


@dataclass(frozen=True)
class Cell:
    """One edit of a sweep: which head of which stage at which of the task's positions."""

    index: tuple[int, ...]
    stage: int
    head: int | None
    place: int | str | None


def sweep(
    model: Any,
    task: Any,
    *,
    site: str = "z",
    by: str | Sequence[str] = "head",
    edit: str | Callable[[Tensor], Tensor] = "patch",
    direction: str = "denoise",
    metric: str | Metric | Callable[..., Tensor] = "logit_difference",
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
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
        direction: for ``patch``: ``denoise`` (the corrupt run with clean values) or ``noise`` (the clean run with
            corrupt values). The other edits' base is the clean run.
        metric: a name of `METRICS`, or ``f(logits [row, d_vocab], example) -> [row]``.
        layers, heads: which ones; all by default.
        positions: names or indices. Without ``by="position"`` all of them are edited at once (by default every position);
            with it they are the axis: by default the task's named positions, or every index where the task has none;
            ``"all"`` asks for every index.
        attend_to: for ``edit="pattern"``, see `workbench.vocabulary.Edit`.
        over: for ``mean``: other inputs, or ``"positions"``.
        seed: of resampling.
        memory_gb: the most memory that the edited rows may take at once; a smaller limit means smaller chunks.
        progress: called with (done, total, what) after each prompt.

    Raises:
        UnknownName: no such site, edit, metric or position.
        UsageError: arguments that do not go together.
    """
    tower, inputs, metric = tower_of(model), inputs_of(task, model), metric_of(metric)
    axes = _axes(by, site, edit)
    if direction not in ("denoise", "noise"):
        raise UnknownName("direction", direction, ("denoise", "noise"))
    denoise = edit == "patch" and direction == "denoise"
    base_ids, source_ids = (inputs.corrupt, inputs.clean) if denoise else (inputs.clean, inputs.corrupt)
    cells, labels = _cells(tower, inputs, site, axes, layers, heads, positions)
    stages = sorted({cell.stage for cell in cells})
    over = over if over is None or over == "positions" else inputs_of(over, model)
    values = None if edit == "patch" else values_of(edit, tower, inputs, site, stages, attend_to=attend_to, over=over, seed=seed)
    shape = tuple(len(labels[axis]) for axis in labels)
    result = np.empty((*shape, len(inputs)))
    base_scores, source_scores = np.empty(len(inputs)), np.empty(len(inputs))
    skipped = 0
    whole = positions if positions is not None and "position" not in axes else None
    for example in range(len(inputs)):
        unit = _Unit(tower, inputs, example, base_ids[example], metric, site, stages, memory_gb)
        base_scores[example] = unit.base_score
        if values is None:
            source_scores[example] = unit.take_from(source_ids[example])
        else:
            unit.take(values)
        scores, unneeded = unit.run(cells, whole)
        skipped += unneeded
        for cell, score in zip(cells, scores, strict=True):
            result[(*cell.index, example)] = score
        if progress:
            progress(example + 1, len(inputs), "sweep")
    info = describe(model, inputs) | {
        "site": site,
        "by": list(axes),
        "edit": edit if isinstance(edit, str) else getattr(edit, "__name__", "function"),
        "direction": direction if edit == "patch" else "noise",
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
        source=source_scores if values is None else None,
        axes=tuple(labels),
        labels=labels,
        info=info,
    )


class _Unit:
    """The sweep of one prompt: a base run, the values to insert, and all its edits in one climb."""

    def __init__(
        self,
        tower: Tower,
        inputs: PairedInputs,
        example: int,
        ids: Tensor,
        metric: Metric,
        site: str,
        stages: Sequence[int],
        memory_gb: float,
    ) -> None:
        self.tower, self.inputs, self.index, self.ids, self.site = tower, inputs, example, ids, site
        self.stages, self.memory_gb, self.metric = stages, memory_gb, metric
        self.hooks = {stage: tower.hook_name(site, stage % tower.n_layers) for stage in stages}
        self.example = Example(example, inputs.answer[example], inputs.wrong[example], inputs.options[example])
        if metric.reference:
            self.example = replace(self.example, reference=self._run(inputs.clean[example], None)[0])
        wanted = metric.wanted(self.example)
        self.tokens = None if wanted is None else torch.tensor(wanted)
        self.own: Stages = {}
        self.given: Stages | Callable[[Tensor], Tensor] = {}
        #: The first position that the edits can change, which is that of the given values' first row.
        self.first = 0
        self.base = tower.base_run(ids[None], self._keeping(self.own)) if tower.resumable else None
        logits = self._read(self.base) if self.base is not None else tower.whole(ids[None], {}, self.tokens)
        self.base_score = self._score(logits)

    def take(self, values: Values) -> None:
        """Take the values to insert from `values`."""
        self.own, self.given = {}, values.of(self.index)

    def take_from(self, source: Tensor) -> float:
        """Take the values to insert from another run, and give that run's metric.

        Before the first difference the two runs of a pair are one and the same, so the other run is a single row of
        the climb, whose stream differs from stage 0 on.
        """
        tower = self.tower
        self.given = kept = {}
        start = self.inputs.first_difference[self.index]
        if self.base is None:
            self.own = record_site(tower, [self.ids], self.site, self.stages)[0]
            self.given = record_site(tower, [source], self.site, self.stages)[0]
            self.first = start if tower.causal else 0
            return self._score(tower.whole(source[None], {}, self.tokens))
        if not tower.causal:
            base = tower.base_run(source[None], self._keeping(kept))
            return self._score(self._read(base))
        self.first, logits = start, []
        entering = Write(0, tower.hook_name("resid_pre", 0), tower.embed(source[None])[0][0])

        def keeper(stage: int) -> Callable[[Sequence[int], int, Tensor], None]:
            def watch(_: Sequence[int], __: int, x: Tensor) -> None:
                kept[stage] = self._positions_first(x[0])

            return watch

        climb(
            tower,
            self.base,
            [Row(0, (entering,))],
            start,
            tokens=self.tokens,
            watch={(stage, hook): keeper(stage) for stage, hook in self.hooks.items()},
            read=lambda _, x: logits.append(x),
        )
        return self._score(logits[0])

    def run(self, cells: Sequence[Cell], whole: Sequence[int | str] | str | None) -> tuple[list[float], int]:
        """The metric after each cell's edit, and how many cells needed no run because nothing can change."""
        rows, of_cell, starts = [], [], []
        scores = [self.base_score] * len(cells)
        for i, cell in enumerate(cells):
            places = [p for p in self._places(cell, whole) if p is None or p >= self.first]
            if not places or self._same(cell, places):
                continue
            rows.append(Row(0, tuple(self._write(cell, place) for place in places)))
            of_cell.append(i)
            start = min(self.first if p is None else p for p in places)
            starts.append(start if self.tower.causal else 0)
        for start in sorted(set(starts)):
            mine = [i for i, s in enumerate(starts) if s == start]
            for i, score in zip(mine, self._climb([rows[i] for i in mine], start), strict=True):
                scores[of_cell[i]] = score
        return scores, len(cells) - len(rows)

    def _climb(self, rows: list[Row], start: int) -> list[float]:
        scores = [0.0] * len(rows)

        def keep(order: Sequence[int], logits: Tensor) -> None:
            for row, score in zip(order, self.metric(logits, self.example).tolist(), strict=True):
                scores[row] = score

        if self.base is not None:
            chunk = chunk_for(self.tower, self.ids, start, self.tokens, self.memory_gb)
            climb(self.tower, self.base, rows, start, tokens=self.tokens, chunk=chunk, read=keep)
            return scores
        for at in range(0, len(rows), 8):  # whole forwards, where resuming is not proven exact
            part = rows[at : at + 8]
            taps, expand = whole_taps(self.tower, part)
            ids = self.ids[None].expand(len(part), *self.ids.shape)
            keep(range(at, at + len(part)), self.tower.whole(ids, taps, self.tokens, expand))
        return scores

    def _write(self, cell: Cell, place: int | None) -> Write:
        hook = self.hooks[cell.stage]
        if callable(self.given):
            return Write(cell.stage, hook, self.given, cell.head, place)
        value = self.given[cell.stage]
        offset = len(self.ids) - len(value)
        value = value if cell.head is None else value[:, cell.head]
        return Write(cell.stage, hook, value if place is None else value[place - offset], cell.head, place, offset)

    def _same(self, cell: Cell, places: list[int | None]) -> bool:
        """Whether a cell's values are the base run's own."""
        if callable(self.given) or not self.own:
            return False
        given, own = self.given[cell.stage], self.own[cell.stage]
        offset = len(own) - len(given)
        if cell.head is not None:
            given, own = given[:, cell.head], own[:, cell.head]
        return all(
            torch.equal(given, own[offset:]) if place is None else torch.equal(given[place - offset], own[place])
            for place in places
        )

    def _places(self, cell: Cell, whole: Sequence[int | str] | str | None) -> list[int | None]:
        if cell.place is not None:
            return [position_of(self.inputs, self.index, cell.place)]
        if whole is None or whole == "all":
            return [None]
        chosen = [whole] if isinstance(whole, str) else whole
        return [position_of(self.inputs, self.index, place) for place in chosen]

    def _keeping(self, into: Stages) -> dict[int, dict[str, Any]]:
        def keeper(stage: int) -> Callable[[Tensor], None]:
            def keep(x: Tensor) -> None:
                into[stage] = self._positions_first(x[0])

            return keep

        taps: dict[int, dict[str, Any]] = {}
        for stage, hook in self.hooks.items():
            taps.setdefault(stage // self.tower.n_layers, {})[hook] = keeper(stage)
        return taps

    def _positions_first(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1) if is_pattern(self.site) else x

    def _run(self, ids: Tensor, tokens: Tensor | None) -> Tensor:
        tower = self.tower
        return self._read(tower.base_run(ids[None]), tokens) if tower.resumable else tower.whole(ids[None], {}, tokens)

    def _read(self, base: Any, tokens: Tensor | None | str = "metric") -> Tensor:
        tower, row = self.tower, torch.tensor([0])
        stream = tower.enter(base, tower.n_layers * tower.n_steps, row, 0)
        return tower.readout(base, row, stream, self.tokens if isinstance(tokens, str) else tokens)

    def _score(self, logits: Tensor) -> float:
        return float(self.metric(logits, self.example))


def whole_taps(tower: Tower, rows: Sequence[Row]) -> tuple[dict[int, dict[str, Any]], dict[int, frozenset[str]]]:
    """Taps (step → hook → tap) that apply each row's writes in one complete forward of a batch of those rows."""
    by_step: dict[int, list[tuple[int, Write]]] = {}
    expand: dict[int, frozenset[str]] = {}
    for r, row in enumerate(rows):
        for write in row.writes:
            step, layer = divmod(write.stage, tower.n_layers)
            by_step.setdefault(step, []).append((r, write))
            if write.expand:
                expand[layer] = expand.get(layer, frozenset()) | {write.expand}
    return {step: taps_for(writes) for step, writes in by_step.items()}, expand


def _axes(by: str | Sequence[str], site: str, edit: object) -> tuple[str, ...]:
    asked = {by} if isinstance(by, str) else set(by)
    if unknown := asked - set(AXES):
        raise UnknownName("axis", min(unknown), AXES)
    if "head" in asked and site in SITES and site not in HEAD_SITES:
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
    layers: Sequence[int] | None,
    heads: Sequence[int] | None,
    positions: Sequence[int | str] | str | None,
) -> tuple[list[Cell], dict[str, tuple[str, ...]]]:
    kv = site in KV_SITES
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
    shared = set.intersection(*(set(named) for named in inputs.positions)) if len(inputs) else set()
    if asked is None and shared - {"end"}:
        return sorted(shared, key=lambda name: inputs.positions[0][name])
    lengths = sorted({len(ids) for ids in inputs.clean})
    if len(lengths) > 1:
        raise UsageError(
            f"These prompts have {', '.join(map(str, lengths))} tokens and no shared named positions, so a position "
            "axis has no meaning: give positions=[...] by name, or prompts of one length."
        )
    return range(lengths[0])


def _within(chosen: Sequence[int], size: int, what: str) -> list[int]:
    for index in chosen:
        if not 0 <= index < size:
            raise UsageError(f"{what} {index} does not exist: the model has {what}s 0 to {size - 1}.")
    return list(chosen)
