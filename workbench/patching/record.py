"""Record activations of some sites for some inputs: in the cache, or in memory where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from workbench.cache import Store, store_of
from workbench.patching.batches import batches
from workbench.patching.context import identity_of, inputs_of, tower_of
from workbench.patching.progress import Progress, Tally
from workbench.patching.recording import InMemory, Recording, Run, Source
from workbench.patching.stored import Stored
from workbench.patching.tower import Tap, Tower


def record(
    model: Any,
    task: Any,
    sites: Sequence[str] = ("z",),
    layers: Sequence[int] | None = None,
    *,
    cache: Any = None,
    progress: Progress | None = None,
) -> Recording:
    """Record `sites` at `layers` (all by default) for every prompt: ``rec.clean``, and ``rec.corrupt`` for pairs.

    What the cache holds is not computed again; the rest is computed and kept. The activations themselves stay on the
    disk and are read prompt by prompt when they are asked for.

    Args:
        model: a `HookedLM`, or any `Tower`.
        task: a task, pairs, `PairedInputs`, a text or a list of texts.
        sites: short site names, or hook names inside a block.
        layers: which layers; all by default.
        cache: None for the user's own cache, False for none (all in memory), or a folder.
        progress: called with (done, total, what) after each batch.

    Raises:
        UnknownName: the model has no such site.
        UsageError: a layer that does not exist.
        BadInput: the disk is full and the rest does not fit into memory.
    """
    tower, inputs, store = tower_of(model), inputs_of(task, model), store_of(cache)
    sites = (sites,) if isinstance(sites, str) else tuple(sites)
    layers = tuple(range(tower.n_layers)) if layers is None else tuple(layers)
    hooks = {site: [tower.hook_name(site, layer) for layer in layers] for site in sites}
    names = [hook for per_layer in hooks.values() for hook in per_layer]
    paired = inputs.corrupt is not inputs.clean
    runs = [inputs.clean, inputs.corrupt] if paired else [inputs.clean]
    recorder = Recorder(tower, store, identity_of(tower, store))
    done = Tally(sum(len(run) for run in runs), "recording", progress)
    recorded = [Run(recorder.source(run, names, done), hooks) for run in runs]
    return Recording(recorded[0], recorded[1] if paired else None, sites, layers)


@dataclass(frozen=True)
class Recorder:
    """Records runs of one model: through a store, or in memory without one."""

    tower: Tower
    store: Store | None = None
    identity: bytes | None = None

    def source(self, inputs: Sequence[Tensor], hooks: Sequence[str], done: Any = lambda _: None) -> Source:
        """Activations at hook names in the first sampling step."""
        if self.store is not None and self.identity is not None:
            stored = Stored(self.tower, self.store, self.identity, inputs, hooks)
            stored.fill(done)
            return stored
        activations: dict[str, list[Tensor]] = {name: [torch.empty(0)] * len(inputs) for name in hooks}
        for members in batches(inputs):
            for name, x in read(self.tower, torch.stack([inputs[i] for i in members]), hooks).items():
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


def read(tower: Tower, batch: Shaped[Tensor, "batch pos *rest"], names: Sequence[str]) -> dict[str, Tensor]:
    """Activations at hook names for one batch, from one run (the first sampling step)."""
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Tap:
        def tap(x: Tensor) -> None:
            kept[name] = x if x.is_contiguous() else x.contiguous()

        return tap

    tower.base_run(batch, {0: {name: keep(name) for name in names}})
    return kept
