"""Runs of one model, recorded through a store, or in memory without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from workbench.cache import Store
from workbench.models.resumable import ResumableModel, Tap
from workbench.patching.batches import batches
from workbench.patching.cached_recording import CachedRecording
from workbench.patching.capture import Changes, take
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
        done: Any = lambda _: None,
        edits: Changes | None = None,
    ) -> Source:
        """Activations at hook names in the first sampling step, under `edits` if there are any."""
        named = edits is None or edits.key(0) is not None
        if self.store is not None and self.identity is not None and named and len(inputs):
            stored = CachedRecording(self.resumable, self.store, self.identity, inputs, hooks, edits)
            stored.fill(done)
            return stored
        activations: dict[str, list[Tensor]] = {name: [torch.empty(0)] * len(inputs) for name in hooks}
        for members in batches(inputs):
            for name, x in take(self.resumable, inputs, members, hooks, edits)[0].items():
                for i, row in zip(members, x, strict=True):
                    activations[name][i] = row
            done(len(members))
        return InMemory(activations)

    def site(
        self, inputs: Sequence[Tensor], site: str, depths: Sequence[int]
    ) -> list[dict[int, Shaped[Tensor, "pos *rest"]]]:
        """One site of each input at some depths, positions first: ``[pos, ...]``, a pattern ``[dest, head, src]``."""
        turned = site.endswith(("pattern", "hook_attn_scores"))
        if self.identity is not None:
            hooks = [self.resumable.hook_name(site, depth) for depth in depths]  # one step: a depth is a layer
            source = self.source(inputs, hooks)
            rows = [dict(zip(depths, source.read(hooks, i), strict=True)) for i in range(len(inputs))]
        else:
            rows = _at_depths(self.resumable, inputs, site, depths)
        if not turned:
            return rows
        return [{depth: x.transpose(0, 1) for depth, x in row.items()} for row in rows]


def _at_depths(
    resumable: ResumableModel, inputs: Sequence[Tensor], site: str, depths: Sequence[int]
) -> list[dict[int, Tensor]]:
    result: list[dict[int, Tensor]] = [{} for _ in inputs]
    kept: dict[int, Tensor] = {}

    def keeper(depth: int) -> Tap:
        def keep(x: Tensor) -> None:
            kept[depth] = x.clone()

        return keep

    taps: dict[int, dict[str, Tap]] = {}
    for depth in depths:
        step, layer = divmod(depth, resumable.n_layers)
        taps.setdefault(step, {})[resumable.hook_name(site, layer)] = keeper(depth)
    for members in batches(inputs):
        resumable.base_run(torch.stack([inputs[i] for i in members]), taps)
        for depth, x in kept.items():
            for i, row in zip(members, x, strict=True):
                result[i][depth] = row
    return result
