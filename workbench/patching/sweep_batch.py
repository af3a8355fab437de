"""The batch of a sweep: prompts of one length and first difference, their base runs, and the climbs of their edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.inputs.paired import Group, PairedInputs
from workbench.models.resumable import ResumableModel
from workbench.patching.batches import BATCH_SIZE
from workbench.patching.cone import EditedRun, Write, full_forward_taps, is_pattern, run_edited
from workbench.patching.memory import chunk_for
from workbench.patching.metric import Example, Metric
from workbench.patching.scorer import Scorer
from workbench.patching.values import Values, ValuesByDepth, position_of

#: Depth → ``[prompt, pos, ...]``.
Recorded = dict[int, Tensor]


@dataclass(frozen=True)
class Cell:
    """One edit of a sweep: which head of which depth at which of the task's positions."""

    index: tuple[int, ...]
    depth: int
    head: int | None
    place: int | str | None


class SweepBatch:
    """At most eight prompts of one length and first difference: their base runs and the values to insert are recorded
    together, and all their edits climb together."""

    def __init__(
        self,
        resumable: ResumableModel,
        inputs: PairedInputs,
        group: Group,
        base_ids: Sequence[Tensor],
        metric: Metric,
        site: str,
        depths: Sequence[int],
        memory_gb: float,
    ) -> None:
        self.resumable, self.inputs, self.members, self.site = resumable, inputs, group.members, site
        self.length, self.depths, self.memory_gb, self.metric = group.length, depths, memory_gb, metric
        self.hooks = {depth: resumable.hook_name(site, depth % resumable.n_layers) for depth in depths}
        self.ids = torch.stack([base_ids[i] for i in group.members])
        self.scorer = Scorer(metric, self._examples())
        #: The base runs' own activations and those to insert, depth → ``[prompt, pos, ...]``.
        self.own: Recorded = {}
        self.given: list[ValuesByDepth | Callable[[Tensor], Tensor]] = [{} for _ in group.members]
        #: The first position that the edits can change, which is that of the given values' first row.
        self.first = 0
        self.difference = group.first_difference
        #: Depth → which of those values, from `first` on, are not the base run's own: ``[prompt, pos, ...]``.
        self.changed: dict[int, Bool[np.ndarray, "prompt pos *head"]] = {}
        self.base: Any = resumable.base_run(self.ids, self._keeping(self.own)) if resumable.resumes else None
        self.base_scores = self._scores(self.ids, self.base)

    def take(self, values: Values) -> None:
        """Take the values to insert."""
        self.own, self.changed, self.given = {}, {}, [values.of(i) for i in self.members]

    def take_from(self, source_ids: Sequence[Tensor]) -> list[float]:
        """Take the values to insert from the other runs, and give those runs' metrics.

        Before the first difference the two runs of a pair are one and the same, so in a causal model the other runs
        are rows of a climb whose stream differs from depth 0 on.
        """
        resumable, recorded = self.resumable, {}
        source = torch.stack([source_ids[i] for i in self.members])
        if self.base is None or not resumable.causal:
            base = resumable.base_run(source, self._keeping(recorded)) if self.base is not None else None
            if base is None:
                self.own = self._record(self.ids)
                recorded = self._record(source)
            scores = self._scores(source, base)
        else:
            self.first = self.difference
            scores = self._branch(source, recorded)
        self.first = self.difference if resumable.causal else 0
        offset = self.length - len(next(iter(recorded.values()))[0]) if recorded else 0
        given = {depth: x[:, self.first - offset :] for depth, x in recorded.items()}
        self.given = [{depth: x[k] for depth, x in given.items()} for k in range(len(source))]
        self.changed = {
            depth: (x != self.own[depth][:, self.first :]).any(-1).cpu().numpy() for depth, x in given.items()
        }
        return scores

    def _branch(self, source: Tensor, recorded: Recorded) -> list[float]:
        resumable, scores = self.resumable, [0.0] * len(source)
        hook, stream = resumable.hook_name("resid_pre", 0), resumable.embed(source)[0]
        rows = [EditedRun(k, (Write(0, hook, x),)) for k, x in enumerate(stream)]

        def keeper(depth: int) -> Callable[[Sequence[int], int, Tensor], None]:
            def observe(_: Sequence[int], __: int, x: Tensor) -> None:
                recorded[depth] = self.positions_first(x)

            return observe

        observe = {(depth, name): keeper(depth) for depth, name in self.hooks.items()}
        chunk, tokens, read = len(rows) * self.length, self.scorer.tokens, self.scorer.into(scores, rows)
        run_edited(resumable, self.base, rows, self.first, tokens=tokens, chunk=chunk, observe=observe, read=read)
        return scores

    def run(
        self,
        cells: Sequence[Cell],
        whole: Sequence[int | str] | str | None,
        progress: Callable[[int], object] = lambda _: None,
    ) -> tuple[Float[np.ndarray, "prompt cell"], int]:
        """Each prompt's metric after each cell's edit, and how many edits needed no run: nothing can change.

        Args:
            whole: the positions of cells that have none of their own; None for every position.
            progress: called with how many edits are done since the last call.
        """
        rows, where, starts = [], [], []
        scores = np.repeat(np.array(self.base_scores)[:, None], len(cells), 1)
        for k, (i, cell) in product(range(len(self.members)), enumerate(cells)):
            places = [p for p in self.places(k, cell, whole) if p is None or p >= self.first]
            if not places or self._same(k, cell, places):
                continue
            rows.append(EditedRun(k, tuple(self._write(k, cell, place) for place in places)))
            where.append((k, i))
            start = min(self.first if p is None else p for p in places)
            starts.append(start if self.resumable.causal else 0)
        skipped = scores.size - len(rows)
        progress(skipped)
        for start in sorted(set(starts)):
            mine = [j for j, s in enumerate(starts) if s == start]
            for j, score in zip(mine, self.run_edited([rows[j] for j in mine], start, progress), strict=True):
                scores[where[j]] = score
        return scores, skipped

    def run_edited(self, rows: list[EditedRun], start: int, progress: Callable[[int], object]) -> list[float]:
        """The score of each edited run; `start` is the first position that any of them can change."""
        scores, tokens = [0.0] * len(rows), self.scorer.tokens
        fill = self.scorer.into(scores, rows)

        def read(order: Sequence[int], readout: Tensor) -> None:
            fill(order, readout)
            progress(len(order))

        if self.base is not None:
            chunk = chunk_for(self.resumable, self.length, start, tokens, self.memory_gb)
            run_edited(self.resumable, self.base, rows, start, tokens=tokens, chunk=chunk, read=read)
            return scores
        for at in range(0, len(rows), BATCH_SIZE):  # whole forwards, where resuming is not proven exact
            part = rows[at : at + BATCH_SIZE]
            taps, expand = full_forward_taps(self.resumable, part)
            read(
                range(at, at + len(part)),
                self.resumable.full_forward(self.ids[[r.input for r in part]], taps, tokens, expand),
            )
        return scores

    def _write(self, k: int, cell: Cell, place: int | None) -> Write:
        hook, given = self.hooks[cell.depth], self.given[k]
        if callable(given):
            return Write(cell.depth, hook, given, cell.head, place)
        value = given[cell.depth]
        offset = self.length - len(value)
        value = value if cell.head is None else value[:, cell.head]
        return Write(cell.depth, hook, value if place is None else value[place - offset], cell.head, place, offset)

    def _same(self, k: int, cell: Cell, places: list[int | None]) -> bool:
        """Whether a cell's values are the base run's own."""
        if not self.changed:
            return False
        changed = self.changed[cell.depth][k]
        if cell.head is not None:
            changed = changed[:, cell.head]
        return not any((changed if place is None else changed[place - self.first]).any() for place in places)

    def places(self, k: int, cell: Cell, whole: Sequence[int | str] | str | None) -> list[int | None]:
        if cell.place is not None:
            return [position_of(self.inputs, self.members[k], cell.place)]
        if whole is None or whole == "all":
            return [None]
        chosen = [whole] if isinstance(whole, str) else whole
        return [position_of(self.inputs, self.members[k], place) for place in chosen]

    def _keeping(self, into: Recorded) -> dict[int, dict[str, Any]]:
        def keeper(depth: int) -> Callable[[Tensor], None]:
            def keep(x: Tensor) -> None:
                into[depth] = self.positions_first(x)

            return keep

        taps: dict[int, dict[str, Any]] = {}
        for depth, hook in self.hooks.items():
            taps.setdefault(depth // self.resumable.n_layers, {})[hook] = keeper(depth)
        return taps

    def _record(self, ids: Tensor) -> Recorded:
        recorded: Recorded = {}
        self.resumable.full_forward(ids, self._keeping(recorded))
        return recorded

    def positions_first(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2) if is_pattern(self.site) else x

    def _examples(self) -> list[Example]:
        inputs = self.inputs
        clean = torch.stack([inputs.clean[i] for i in self.members]) if self.metric.reference else None
        reference = (
            None
            if clean is None
            else self._readout(clean, self.resumable.base_run(clean) if self.resumable.resumes else None, None)
        )
        return [
            Example(
                i, inputs.answer[i], inputs.wrong[i], inputs.options[i], None if reference is None else reference[k]
            )
            for k, i in enumerate(self.members)
        ]

    @torch.no_grad()
    def _readout(self, ids: Tensor, base: Any, tokens: Tensor | None) -> Tensor:
        resumable, rows = self.resumable, torch.arange(len(ids))
        if base is None:
            return resumable.full_forward(ids, {}, tokens)
        return resumable.readout(
            base, rows, resumable.stream_at(base, resumable.n_layers * resumable.n_steps, rows, 0), tokens
        )

    def _scores(self, ids: Tensor, base: Any) -> list[float]:
        readout = self._readout(ids, base, self.scorer.tokens)
        return [self.scorer(k, row[None])[0] for k, row in enumerate(readout)]
