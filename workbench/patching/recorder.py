"""Runs of one model, recorded through a store, or in memory without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from workbench.cache import Store
from workbench.models.resumable import Tap, Tower
from workbench.patching.batches import batches
from workbench.patching.cached_recording import Stored
from workbench.patching.capture import Changes, take
from workbench.patching.recording import InMemory, Source


@dataclass(frozen=True)
class Recorder:
    """Records runs of one model: through a store, or in memory without one."""

    tower: Tower
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
            stored = Stored(self.tower, self.store, self.identity, inputs, hooks, edits)
            stored.fill(done)
            return stored
        activations: dict[str, list[Tensor]] = {name: [torch.empty(0)] * len(inputs) for name in hooks}
        for members in batches(inputs):
            for name, x in take(self.tower, inputs, members, hooks, edits)[0].items():
                for i, row in zip(members, x, strict=True):
                    activations[name][i] = row
            done(len(members))
        return InMemory(activations)

    def site(
        self, inputs: Sequence[Tensor], site: str, stages: Sequence[int]
    ) -> list[dict[int, Shaped[Tensor, "pos *rest"]]]:
        """One site of each input at some stages, positions first: ``[pos, ...]``, a pattern ``[dest, head, src]``."""
        turned = site.endswith(("pattern", "hook_attn_scores"))
        if self.identity is not None:
            hooks = [self.tower.hook_name(site, stage) for stage in stages]  # one step: a stage is a layer
            source = self.source(inputs, hooks)
            rows = [dict(zip(stages, source.read(hooks, i), strict=True)) for i in range(len(inputs))]
        else:
            rows = _of_stages(self.tower, inputs, site, stages)
        if not turned:
            return rows
        return [{stage: x.transpose(0, 1) for stage, x in row.items()} for row in rows]


def _of_stages(tower: Tower, inputs: Sequence[Tensor], site: str, stages: Sequence[int]) -> list[dict[int, Tensor]]:
    result: list[dict[int, Tensor]] = [{} for _ in inputs]
    kept: dict[int, Tensor] = {}

    def keeper(stage: int) -> Tap:
        def keep(x: Tensor) -> None:
            kept[stage] = x.clone()

        return keep

    taps: dict[int, dict[str, Tap]] = {}
    for stage in stages:
        step, layer = divmod(stage, tower.n_layers)
        taps.setdefault(step, {})[tower.hook_name(site, layer)] = keeper(stage)
    for members in batches(inputs):
        tower.base_run(torch.stack([inputs[i] for i in members]), taps)
        for stage, x in kept.items():
            for i, row in zip(members, x, strict=True):
                result[i][stage] = row
    return result
