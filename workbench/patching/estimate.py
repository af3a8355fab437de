"""What a recording will cost, before it is made."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from workbench import arguments
from workbench.cache import store_of
from workbench.patching.cached_recording import CachedRecording
from workbench.patching.resolve import model_identity, resolve_inputs, resolve_layers, resolve_model, site_hooks


@dataclass(frozen=True)
class Estimate:
    """Bytes on the disk and seconds for what is not in the cache yet.

    Attributes:
        prompts: runs to record, the two of a pair counted both; `cached` of them are in the cache.
        size: bytes that the rest takes.
        seconds: how long it takes, from one batch that was timed; 0 where nothing is missing.

    Examples:
        >>> estimate = wb.estimate(wb.load("tiny"), wb.task("ioi", n=6), cache=False)
        >>> estimate.prompts, estimate.cached
        (12, 0)
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
    return sum(len(batch) for source, batch in _units(model, task, sites, layers, cache) if _has(source, batch))


def estimate(
    model: Any, task: Any, sites: Sequence[str] = ("z",), layers: Sequence[int] | None = None, *, cache: Any = None
) -> Estimate:
    """What `workbench.record` with the same arguments would cost. One batch is run to know (and not kept).

    Examples:
        >>> model = wb.load("tiny")
        >>> estimate = wb.estimate(model, wb.task("ioi", n=6), ["z", "pattern"], cache=False)
        >>> estimate.prompts, estimate.size > 0  # both runs of each pair; bytes
        (12, True)
    """
    prompts, cached, tokens, size, seconds = 0, 0, 0, 0.0, 0.0
    for source, batch in _units(model, task, sites, layers, cache):
        prompts += len(batch)
        if _has(source, batch):
            cached += len(batch)
            continue
        if not tokens:
            source.compute(batch)  # once to warm up
            began = time.perf_counter()
            here = len(batch) * len(source.ids[batch[0]])
            size = sum(x.nbytes for x in source.compute(batch).values()) / here
            seconds = (time.perf_counter() - began) / here
        tokens += len(batch) * len(source.ids[batch[0]])
    return Estimate(prompts, cached, round(size * tokens), seconds * tokens)


def _units(
    model: Any, task: Any, sites: Sequence[str], layers: Sequence[int] | None, cache: Any
) -> Iterator[tuple[CachedRecording, list[int]]]:
    """The batches of a recording, each with the run that it is of."""
    resumable, inputs, store = resolve_model(model), resolve_inputs(task, model), store_of(cache)
    chosen = resolve_layers(layers, resumable.n_layers)
    sites = arguments.texts("sites", sites, "names of sites")
    hooks = [hook for per_layer in site_hooks(resumable, sites, chosen).values() for hook in per_layer]
    identity = model_identity(resumable, store)
    for ids in [inputs.clean] if inputs.corrupt is inputs.clean else [inputs.clean, inputs.corrupt]:
        source = CachedRecording(resumable, store if identity else None, identity or b"", ids, hooks)
        yield from ((source, batch) for batch in source.batches)


def _has(source: CachedRecording, batch: list[int]) -> bool:
    return source.store is not None and source.has(batch)
