"""The cost of a recording, before it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from workbench import arguments
from workbench.cache import store_of
from workbench.models.steps import at_step, resolve_steps
from workbench.patching.cached_recording import CachedRecording
from workbench.patching.resolve import model_identity, resolve_inputs, resolve_layers, resolve_model, site_hooks


@dataclass(frozen=True)
class Estimate:
    """Bytes on the disk and seconds for what is not in the cache yet.

    Attributes:
        runs: to record, the two of a pair counted both; `cached` of them are in the cache.
        size: bytes that the rest takes.
        seconds: how long it takes, from one batch that was timed; 0 where nothing is missing.

    Examples:
        >>> estimate = wb.estimate(wb.load("tiny"), wb.task("ioi", n=6), cache=False)
        >>> estimate.runs, estimate.cached
        (12, 0)
    """

    runs: int
    cached: int
    size: int
    seconds: float

    def __str__(self) -> str:
        if self.cached == self.runs:
            return f"All {self.runs} runs are in the cache."
        already = f"; {self.cached} are in the cache" if self.cached else ""
        return f"{self.runs} runs{already}: about {self.size / 1e6:.1f} MB and {self.seconds:.0f} s for the rest."


def count_cached(
    model: Any,
    task: Any,
    sites: Sequence[str],
    layers: Sequence[int] | None = None,
    *,
    steps: Sequence[int] | int | None = None,
    cache: Any = None,
) -> int:
    """How many of the runs that `workbench.record` would record are completely in the cache."""
    batches = _batches(model, task, sites, layers, steps, cache)
    return sum(len(batch) for source, batch in batches if _has(source, batch))


def estimate(
    model: Any,
    task: Any,
    sites: Sequence[str] = ("z",),
    layers: Sequence[int] | None = None,
    *,
    steps: Sequence[int] | int | None = None,
    cache: Any = None,
) -> Estimate:
    """What `workbench.record` with the same arguments would cost. One batch is run for timing (and not stored).

    Examples:
        >>> model = wb.load("tiny")
        >>> estimate = wb.estimate(model, wb.task("ioi", n=6), ["z", "pattern"], cache=False)
        >>> estimate.runs, estimate.size > 0  # both runs of each pair; bytes
        (12, True)
    """
    runs, cached, tokens, size, seconds = 0, 0, 0, 0.0, 0.0
    for source, batch in _batches(model, task, sites, layers, steps, cache):
        runs += len(batch)
        if _has(source, batch):
            cached += len(batch)
            continue
        if not tokens:
            source.compute(batch)  # once to warm up
            start = time.perf_counter()
            n_tokens = len(batch) * len(source.ids[batch[0]])
            size = sum(x.nbytes for x in source.compute(batch).values()) / n_tokens
            seconds = (time.perf_counter() - start) / n_tokens
        tokens += len(batch) * len(source.ids[batch[0]])
    return Estimate(runs, cached, round(size * tokens), seconds * tokens)


def _batches(
    model: Any,
    task: Any,
    sites: Sequence[str],
    layers: Sequence[int] | None,
    steps: Sequence[int] | int | None,
    cache: Any,
) -> Iterator[tuple[CachedRecording, list[int]]]:
    """The batches of a recording, each with the recording of its run."""
    resumable, inputs, store = resolve_model(model), resolve_inputs(task, model), store_of(cache)
    selected = resolve_layers(layers, resumable.n_layers)
    sites = arguments.texts("sites", sites, "names of sites")
    n_steps = resumable.n_steps
    hooks = [
        at_step(hook, step, n_steps)
        for step in resolve_steps("steps", steps, n_steps)
        for per_layer in site_hooks(resumable, sites, selected).values()
        for hook in per_layer
    ]
    identity = model_identity(resumable, store)
    for ids in [inputs.clean] if inputs.corrupt is inputs.clean else [inputs.clean, inputs.corrupt]:
        source = CachedRecording(resumable, store if identity else None, identity or b"", ids, hooks)
        yield from ((source, batch) for batch in source.batches)


def _has(source: CachedRecording, batch: list[int]) -> bool:
    return source.store is not None and source.has(batch)
