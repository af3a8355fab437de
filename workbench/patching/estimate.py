"""What a recording will cost, before it is made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.cache import store_of
from workbench.patching.context import identity_of, inputs_of, tower_of
from workbench.patching.stored import Stored


@dataclass(frozen=True)
class Estimate:
    """Bytes on the disk and seconds for what is not in the cache yet.

    Attributes:
        prompts: runs to record, the two of a pair counted both; `cached` of them are in the cache.
        size: bytes that the rest takes.
        seconds: how long it takes, from one unit that was timed; 0 where nothing is missing.
    """

    prompts: int
    cached: int
    size: int
    seconds: float

    def __str__(self) -> str:
        if self.cached == self.prompts:
            return f"All {self.prompts} runs are in the cache."
        already = f"; {self.cached} are in the cache" if self.cached else ""
        return f"{self.prompts} runs{already}: about {self.size / 1e6:.1f} MB and {self.seconds:.0f} s for the rest."


def held(model: Any, task: Any, sites: Sequence[str], layers: Sequence[int] | None = None, *, cache: Any = None) -> int:
    """How many of the runs that `workbench.record` would record are in the cache, whole."""
    tower, inputs, store = tower_of(model), inputs_of(task, model), store_of(cache)
    identity = identity_of(tower, store)
    if store is None or identity is None:
        return 0
    chosen = range(tower.n_layers) if layers is None else layers
    hooks = [tower.hook_name(site, layer) for site in sites for layer in chosen]
    runs = [inputs.clean] if inputs.corrupt is inputs.clean else [inputs.clean, inputs.corrupt]
    sources = [Stored(tower, store, identity, ids, hooks) for ids in runs]
    return sum(len(unit) for source in sources for unit in source.units if source.has(unit))


def estimate(
    model: Any, task: Any, sites: Sequence[str] = ("z",), layers: Sequence[int] | None = None, *, cache: Any = None
) -> Estimate:
    """What `workbench.record` with the same arguments would cost. One unit is run to know (and not kept)."""
    tower, inputs, store = tower_of(model), inputs_of(task, model), store_of(cache)
    chosen = range(tower.n_layers) if layers is None else layers
    hooks = [tower.hook_name(site, layer) for site in sites for layer in chosen]
    identity = identity_of(tower, store)
    runs = [inputs.clean] if inputs.corrupt is inputs.clean else [inputs.clean, inputs.corrupt]
    prompts, cached, size, seconds, per_token, time_per_token = 0, 0, 0.0, 0.0, 0.0, 0.0
    for ids in runs:
        stored = Stored(tower, store, identity or b"", ids, hooks)
        for unit in stored.units:
            prompts += len(unit)
            if store is not None and identity is not None and stored.has(unit):
                cached += len(unit)
                continue
            tokens = len(unit) * len(ids[unit[0]])
            if not per_token:
                stored.compute(unit)  # once to warm up
                began = time.perf_counter()
                per_token = sum(x.nbytes for x in stored.compute(unit).values()) / tokens
                time_per_token = (time.perf_counter() - began) / tokens
            size += per_token * tokens
            seconds += time_per_token * tokens
    return Estimate(prompts, cached, round(size), seconds)
