"""What a recording will cost, before it is made."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.cache import store_of
from workbench.patching.cached_recording import Stored
from workbench.patching.resolve import identity_of, inputs_of, layers_of, tower_of


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
    return sum(len(unit) for source, unit in _units(model, task, sites, layers, cache) if _has(source, unit))


def estimate(
    model: Any, task: Any, sites: Sequence[str] = ("z",), layers: Sequence[int] | None = None, *, cache: Any = None
) -> Estimate:
    """What `workbench.record` with the same arguments would cost. One unit is run to know (and not kept)."""
    prompts, cached, tokens, size, seconds = 0, 0, 0, 0.0, 0.0
    for source, unit in _units(model, task, sites, layers, cache):
        prompts += len(unit)
        if _has(source, unit):
            cached += len(unit)
            continue
        if not tokens:
            source.compute(unit)  # once to warm up
            began = time.perf_counter()
            here = len(unit) * len(source.ids[unit[0]])
            size = sum(x.nbytes for x in source.compute(unit).values()) / here
            seconds = (time.perf_counter() - began) / here
        tokens += len(unit) * len(source.ids[unit[0]])
    return Estimate(prompts, cached, round(size * tokens), seconds * tokens)


def _units(
    model: Any, task: Any, sites: Sequence[str], layers: Sequence[int] | None, cache: Any
) -> Iterator[tuple[Stored, list[int]]]:
    """The units of a recording, each with the run that it is of."""
    tower, inputs, store = tower_of(model), inputs_of(task, model), store_of(cache)
    chosen = range(tower.n_layers) if layers is None else layers_of(layers, tower.n_layers)
    sites = (sites,) if isinstance(sites, str) else sites
    hooks = [tower.hook_name(site, layer) for site in sites for layer in chosen]
    identity = identity_of(tower, store)
    for ids in [inputs.clean] if inputs.corrupt is inputs.clean else [inputs.clean, inputs.corrupt]:
        source = Stored(tower, store if identity else None, identity or b"", ids, hooks)
        yield from ((source, unit) for unit in source.units)


def _has(source: Stored, unit: list[int]) -> bool:
    return source.store is not None and source.has(unit)
