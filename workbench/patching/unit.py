"""The unit of a sweep: prompts of one length and first difference, their base runs, and the climbs of their edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.inputs import Group, PairedInputs
from workbench.patching.cone import Row, Write, climb, is_pattern, taps_for
from workbench.patching.memory import chunk_for
from workbench.patching.metrics import Example, Metric
from workbench.patching.record import UNIT
from workbench.patching.tower import Tower
from workbench.patching.values import Stages, Values, position_of

#: Stage → ``[prompt, pos, ...]``.
Recorded = dict[int, Tensor]


@dataclass(frozen=True)
class Cell:
    """One edit of a sweep: which head of which stage at which of the task's positions."""

    index: tuple[int, ...]
    stage: int
    head: int | None
    place: int | str | None


class Unit:
    """At most eight prompts of one length and first difference: their base runs and the values to insert are recorded
    together, then each prompt's edits climb by themselves, so that they share one prefix."""

    def __init__(
        self,
        tower: Tower,
        inputs: PairedInputs,
        group: Group,
        base_ids: Sequence[Tensor],
        metric: Metric,
        site: str,
        stages: Sequence[int],
        memory_gb: float,
    ) -> None:
        self.tower, self.inputs, self.members, self.site = tower, inputs, group.members, site
        self.length, self.stages, self.memory_gb, self.metric = group.length, stages, memory_gb, metric
        self.hooks = {stage: tower.hook_name(site, stage % tower.n_layers) for stage in stages}
        self.ids = torch.stack([base_ids[i] for i in group.members])
        self.examples = self._examples()
        wanted = [metric.wanted(example) for example in self.examples]
        self.tokens = [None if ids is None else torch.tensor(ids) for ids in wanted]
        #: The base runs' own activations and those to insert, stage → ``[prompt, pos, ...]``.
        self.own: Recorded = {}
        self.given: list[Stages | Callable[[Tensor], Tensor]] = [{} for _ in group.members]
        #: The first position that the edits can change, which is that of the given values' first row.
        self.first = 0
        self.difference = group.first_difference
        self.base: Any = tower.base_run(self.ids, self._keeping(self.own)) if tower.resumable else None
        self.base_scores = self._scores(self.ids, self.base)

    def take(self, values: Values, k: int) -> None:
        """Take the values to insert for the k-th prompt."""
        self.own, self.given[k] = {}, values.of(self.members[k])

    def take_from(self, source_ids: Sequence[Tensor]) -> list[float]:
        """Take the values to insert from the other runs, and give those runs' metrics.

        Before the first difference the two runs of a pair are one and the same, so in a causal model the other runs
        are rows of a climb whose stream differs from stage 0 on.
        """
        tower, recorded = self.tower, {}
        source = torch.stack([source_ids[i] for i in self.members])
        if self.base is None or not tower.causal:
            base = tower.base_run(source, self._keeping(recorded)) if self.base is not None else None
            if base is None:
                self.own = self._record(self.ids)
                recorded = self._record(source)
            scores = self._scores(source, base)
        else:
            self.first = self.difference
            scores = self._branch(source, recorded)
        self.first = self.difference if tower.causal else 0
        offset = self.length - len(next(iter(recorded.values()))[0]) if recorded else 0
        self.given = [{stage: x[k][self.first - offset :] for stage, x in recorded.items()} for k in range(len(source))]
        return scores

    def _branch(self, source: Tensor, recorded: Recorded) -> list[float]:
        tower, logits = self.tower, [torch.empty(0)] * len(source)
        hook, stream = tower.hook_name("resid_pre", 0), tower.embed(source)[0]
        rows = [Row(k, (Write(0, hook, x),)) for k, x in enumerate(stream)]

        def keeper(stage: int) -> Callable[[Sequence[int], int, Tensor], None]:
            def watch(_: Sequence[int], __: int, x: Tensor) -> None:
                recorded[stage] = self._positions_first(x)

            return watch

        def read(order: Sequence[int], x: Tensor) -> None:
            for k, row in zip(order, x, strict=True):
                logits[k] = row

        watch = {(stage, name): keeper(stage) for stage, name in self.hooks.items()}
        climb(tower, self.base, rows, self.first, chunk=len(rows) * self.length, watch=watch, read=read)
        return [
            self._score(k, row[None] if t is None else row[None, t])
            for k, (row, t) in enumerate(zip(logits, self.tokens, strict=True))
        ]

    def run(self, k: int, cells: Sequence[Cell], whole: Sequence[int | str] | str | None) -> tuple[list[float], int]:
        """The k-th prompt's metric after each cell's edit, and how many cells needed no run: nothing can change."""
        rows, of_cell, starts = [], [], []
        scores = [self.base_scores[k]] * len(cells)
        for i, cell in enumerate(cells):
            places = [p for p in self._places(k, cell, whole) if p is None or p >= self.first]
            if not places or self._same(k, cell, places):
                continue
            rows.append(Row(0, tuple(self._write(k, cell, place) for place in places)))
            of_cell.append(i)
            start = min(self.first if p is None else p for p in places)
            starts.append(start if self.tower.causal else 0)
        base = None if self.base is None else self.tower.select(self.base, k)
        for start in sorted(set(starts)):
            mine = [i for i, s in enumerate(starts) if s == start]
            for i, score in zip(mine, self._climb(k, base, [rows[i] for i in mine], start), strict=True):
                scores[of_cell[i]] = score
        return scores, len(cells) - len(rows)

    def _climb(self, k: int, base: Any, rows: list[Row], start: int) -> list[float]:
        scores, tokens = [0.0] * len(rows), self.tokens[k]

        def keep(order: Sequence[int], logits: Tensor) -> None:
            for row, score in zip(order, self.metric(logits, self.examples[k]).tolist(), strict=True):
                scores[row] = score

        if base is not None:
            chunk = chunk_for(self.tower, self.length, start, tokens, self.memory_gb)
            climb(self.tower, base, rows, start, tokens=tokens, chunk=chunk, read=keep)
            return scores
        for at in range(0, len(rows), UNIT):  # whole forwards, where resuming is not proven exact
            part = rows[at : at + UNIT]
            taps, expand = whole_taps(self.tower, part)
            ids = self.ids[k][None].expand(len(part), *self.ids.shape[1:])
            keep(range(at, at + len(part)), self.tower.whole(ids, taps, tokens, expand))
        return scores

    def _write(self, k: int, cell: Cell, place: int | None) -> Write:
        hook, given = self.hooks[cell.stage], self.given[k]
        if callable(given):
            return Write(cell.stage, hook, given, cell.head, place)
        value = given[cell.stage]
        offset = self.length - len(value)
        value = value if cell.head is None else value[:, cell.head]
        return Write(cell.stage, hook, value if place is None else value[place - offset], cell.head, place, offset)

    def _same(self, k: int, cell: Cell, places: list[int | None]) -> bool:
        """Whether a cell's values are the base run's own."""
        everything = self.given[k]
        if callable(everything) or not self.own:
            return False
        given, own = everything[cell.stage], self.own[cell.stage][k]
        offset = len(own) - len(given)
        if cell.head is not None:
            given, own = given[:, cell.head], own[:, cell.head]
        return all(
            torch.equal(given, own[offset:]) if place is None else torch.equal(given[place - offset], own[place])
            for place in places
        )

    def _places(self, k: int, cell: Cell, whole: Sequence[int | str] | str | None) -> list[int | None]:
        if cell.place is not None:
            return [position_of(self.inputs, self.members[k], cell.place)]
        if whole is None or whole == "all":
            return [None]
        chosen = [whole] if isinstance(whole, str) else whole
        return [position_of(self.inputs, self.members[k], place) for place in chosen]

    def _keeping(self, into: Recorded) -> dict[int, dict[str, Any]]:
        def keeper(stage: int) -> Callable[[Tensor], None]:
            def keep(x: Tensor) -> None:
                into[stage] = self._positions_first(x)

            return keep

        taps: dict[int, dict[str, Any]] = {}
        for stage, hook in self.hooks.items():
            taps.setdefault(stage // self.tower.n_layers, {})[hook] = keeper(stage)
        return taps

    def _record(self, ids: Tensor) -> Recorded:
        recorded: Recorded = {}
        self.tower.whole(ids, self._keeping(recorded))
        return recorded

    def _positions_first(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2) if is_pattern(self.site) else x

    def _examples(self) -> list[Example]:
        inputs = self.inputs
        clean = torch.stack([inputs.clean[i] for i in self.members]) if self.metric.reference else None
        reference = (
            None if clean is None else self._logits(clean, self.tower.base_run(clean) if self.tower.resumable else None)
        )
        return [
            Example(
                i, inputs.answer[i], inputs.wrong[i], inputs.options[i], None if reference is None else reference[k]
            )
            for k, i in enumerate(self.members)
        ]

    def _logits(self, ids: Tensor, base: Any) -> Tensor:
        tower, rows = self.tower, torch.arange(len(ids))
        if base is None:
            return tower.whole(ids, {})
        return tower.readout(base, rows, tower.enter(base, tower.n_layers * tower.n_steps, rows, 0))

    def _scores(self, ids: Tensor, base: Any) -> list[float]:
        logits = self._logits(ids, base)
        return [
            self._score(k, logits[k : k + 1] if t is None else logits[k : k + 1, t]) for k, t in enumerate(self.tokens)
        ]

    def _score(self, k: int, logits: Tensor) -> float:
        return float(self.metric(logits, self.examples[k]))


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
