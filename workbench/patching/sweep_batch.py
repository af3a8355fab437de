"""One batch of a sweep: its base runs, the values to insert, and the edited runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.inputs.paired import Group, PairedInputs
from workbench.models.resumable import ResumableModel
from workbench.patching.batch_runs import BatchRuns
from workbench.patching.batches import BATCH_SIZE
from workbench.patching.capture import Capture, taps_at
from workbench.patching.cone import (
    EditedRun,
    Write,
    first_changed,
    full_forward_taps,
    is_pattern,
    naming_edits,
    run_edited,
)
from workbench.patching.memory import chunk_for
from workbench.patching.metric import Metric
from workbench.patching.values import Values, ValuesByDepth, indices_of


@dataclass(frozen=True)
class Cell:
    """One edit of a sweep: which head, at which depths (one a step) and at which of the task's positions."""

    index: tuple[int, ...]
    depths: tuple[int, ...]
    head: int | None
    position: int | str | None


class SweepBatch(BatchRuns):
    """A batch whose edits are made at one site; all of its edited runs are computed together.

    Attributes:
        base_values: depth → the base runs' own activations, ``[input, pos, ...]``.
        source_values: the inserted values, for each input: depth → ``[pos, ...]`` from `first` on, or a function.
        first: the first position that the edits can change.
        changed: depth → which of the inserted values, from `first` on, are not the base run's own.
    """

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
        self.site, self.depths, self.memory_gb, self.first = site, depths, memory_gb, 0
        self.base_values: dict[int, Tensor] = Capture(self.positions_first)
        self.source_values: list[ValuesByDepth | Callable[[Tensor], Tensor]] = [{} for _ in group.members]
        self.changed: dict[int, Bool[np.ndarray, "input pos *head"]] = {}
        self.hooks = {depth: resumable.hook_name(site, depth % resumable.n_layers) for depth in depths}
        taps = taps_at(resumable, self.base_values, site, depths)
        super().__init__(resumable, inputs, group, base_ids, metric, taps)
        self.base_scores = self.score()

    def insert(self, values: Values) -> None:
        """Insert `values`."""
        self.base_values, self.changed = {}, {}
        self.source_values = [values.of(i) for i in self.members]

    def insert_from(self, source_ids: Sequence[Tensor]) -> list[float]:
        """Insert the activations of the source runs, and return those runs' metrics."""
        resumable = self.resumable
        self.first = self.first_difference if resumable.causal else 0
        if self.base is not None and resumable.causal:
            scores, values = self.resume_sources(source_ids, self.hooks, self.positions_first)
        else:
            source = self.stacked(source_ids)
            run, captured = self.run_and_capture(source, self.site, self.depths, self.positions_first)
            if self.base is None:
                _, self.base_values = self.run_and_capture(self.ids, self.site, self.depths, self.positions_first)
            scores = self.scores(source, run)
            values = {depth: x[:, self.first :] for depth, x in captured.items()}
        self.source_values = [{depth: x[k] for depth, x in values.items()} for k in range(len(self.members))]
        self.changed = {
            depth: (x != self.base_values[depth][:, self.first :]).any(-1).cpu().numpy() for depth, x in values.items()
        }
        return scores

    def run(
        self,
        cells: Sequence[Cell],
        shared_positions: Sequence[int | str] | int | str | None,
        progress: Callable[[int], object] = lambda _: None,
    ) -> tuple[Float[np.ndarray, "input cell"], int]:
        """Each input's metric after each cell's edit, and how many edits were not run because nothing can change.

        Args:
            shared_positions: the positions of cells that have none of their own; None for every position.
            progress: called with how many edits are done since the last call.
        """
        runs, indices, starts = [], [], []
        scores = np.repeat(np.array(self.base_scores)[:, None], len(cells), 1)
        for k, (i, cell) in product(range(len(self.members)), enumerate(cells)):
            positions = [p for p in self.positions(k, cell, shared_positions) if p is None or p >= self.first]
            if not positions or self._changes_nothing(k, cell, positions):
                continue
            writes = (self._write(k, cell, depth, position) for depth in cell.depths for position in positions)
            runs.append(EditedRun(k, tuple(writes)))
            indices.append((k, i))
            start = min(self.first if p is None else p for p in positions)
            starts.append(first_changed(self.resumable, start))
        skipped = scores.size - len(runs)
        progress(skipped)
        self.run_by_start(runs, indices, starts, scores, progress)
        return scores, skipped

    def run_by_start(
        self,
        runs: Sequence[EditedRun],
        indices: Sequence[tuple[int, ...]],
        starts: Sequence[int],
        scores: Float[np.ndarray, "input cell"],
        progress: Callable[[int], object],
    ) -> None:
        """Compute edited runs, those with the same first changed position together, and fill in ``scores[index]``."""
        for start in sorted(set(starts)):
            group = [j for j, first in enumerate(starts) if first == start]
            results = self.run_edited([runs[j] for j in group], start, progress)
            for j, score in zip(group, results, strict=True):
                scores[indices[j]] = score

    def run_edited(self, runs: list[EditedRun], start: int, progress: Callable[[int], object]) -> list[float]:
        """The score of each edited run; `start` is the first position that any of them can change."""
        scores, tokens = [0.0] * len(runs), self.scorer.tokens
        fill = self.scorer.fill(scores, runs)

        def read(order: Sequence[int], readout: Tensor) -> None:
            fill(order, readout)
            progress(len(order))

        if self.base is not None:
            chunk = chunk_for(self.resumable, self.length, start, tokens, self.memory_gb)
            run_edited(self.resumable, self.base, runs, start, tokens=tokens, chunk=chunk, read=read)
            return scores
        for at in range(0, len(runs), BATCH_SIZE):  # full forwards, where resuming is not exact
            part = runs[at : at + BATCH_SIZE]
            taps, expand = full_forward_taps(self.resumable, part)
            ids = self.ids[[run.input for run in part]]
            with naming_edits(part, self.resumable.n_layers):
                readout = self.resumable.full_forward(ids, taps, tokens, expand)
            read(range(at, at + len(part)), readout)
        return scores

    def _write(self, k: int, cell: Cell, depth: int, position: int | None) -> Write:
        hook, values = self.hooks[depth], self.source_values[k]
        if callable(values):
            return Write(depth, hook, values, cell.head, position)
        value = values[depth]
        offset = self.length - len(value)
        value = value if cell.head is None else value[:, cell.head]
        value = value if position is None else value[position - offset]
        return Write(depth, hook, value, cell.head, position, offset)

    def _changes_nothing(self, k: int, cell: Cell, positions: list[int | None]) -> bool:
        """Whether a cell's values are the base run's own."""
        if not self.changed:
            return False
        for depth in cell.depths:
            changed = self.changed[depth][k]
            if cell.head is not None:
                changed = changed[:, cell.head]
            if any((changed if p is None else changed[p - self.first]).any() for p in positions):
                return False
        return True

    def positions(
        self, k: int, cell: Cell, shared_positions: Sequence[int | str] | int | str | None
    ) -> list[int | None]:
        """Where a cell's edit is made in the k-th input."""
        shared = shared_positions if cell.position is None else cell.position
        if shared is None or shared == "all":
            return [None]
        shared = [shared] if isinstance(shared, str | int) else shared
        return list(indices_of(self.inputs, self.members[k], shared))

    def positions_first(self, x: Tensor) -> Tensor:
        """``[input, pos, ...]``, patterns too."""
        return x.transpose(1, 2) if is_pattern(self.site) else x
