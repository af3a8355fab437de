"""Runs of one model, recorded through a store, or in memory without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from workbench.cache import Store
from workbench.models.resumable import ResumableModel
from workbench.models.steps import hook_at_depth
from workbench.patching.batches import batches
from workbench.patching.cached_recording import CachedRecording
from workbench.patching.capture import Capture, RunEdits, capture_hooks, taps_at
from workbench.patching.cone import is_pattern
from workbench.patching.recording import InMemory, Source


@dataclass(frozen=True)
class Recorder:
    """Records runs of one model: through a store, or in memory without one."""

    resumable: ResumableModel
    store: Store | None = None
    identity: bytes | None = None

    def source(
        self,
        inputs: Sequence[Tensor],
        hooks: Sequence[str],
        progress: Callable[[int], object] = lambda _: None,
        edits: RunEdits | None = None,
        heads: Sequence[int] | None = None,
    ) -> Source:
        """Activations at hooks (with the step where the model has several), of all heads or some, under `edits` if
        there are any."""
        cacheable = edits is None or edits.key(0) is not None
        if self.store is not None and self.identity is not None and cacheable and len(inputs):
            recording = CachedRecording(self.resumable, self.store, self.identity, inputs, hooks, edits, heads)
            recording.fill(progress)
            return recording
        activations: dict[str, list[Tensor]] = {name: [] for name in hooks}
        places = [(0, 0)] * len(inputs)
        for number, members in enumerate(batches(inputs)):
            captured, _ = capture_hooks(self.resumable, inputs, members, hooks, edits, heads, keep_run=False)
            for name, x in captured.items():
                activations[name].append(x)
            for row, i in enumerate(members):
                places[i] = number, row
            progress(len(members))
        return InMemory(activations, places)

    def site(
        self, inputs: Sequence[Tensor], site: str, depths: Sequence[int]
    ) -> list[dict[int, Shaped[Tensor, "pos *rest"]]]:
        """One site of each input at some depths, positions first: ``[pos, ...]``, a pattern ``[dest, head, src]``."""
        if self.identity is not None:
            hooks = [hook_at_depth(self.resumable, site, depth) for depth in depths]
            source = self.source(inputs, hooks)
            rows = [dict(zip(depths, source.read(hooks, i), strict=True)) for i in range(len(inputs))]
        else:
            rows = _at_depths(self.resumable, inputs, site, depths)
        if not is_pattern(site):
            return rows
        return [{depth: x.transpose(0, 1) for depth, x in row.items()} for row in rows]


def _at_depths(
    resumable: ResumableModel, inputs: Sequence[Tensor], site: str, depths: Sequence[int]
) -> list[dict[int, Tensor]]:
    result: list[dict[int, Tensor]] = [{} for _ in inputs]
    captured = Capture[int](Tensor.clone)
    taps = taps_at(resumable, captured, site, depths)
    for members in batches(inputs):
        resumable.base_run(torch.stack([inputs[i] for i in members]), taps)
        for depth, x in captured.items():
            for i, row in zip(members, x, strict=True):
                result[i][depth] = row
    return result
