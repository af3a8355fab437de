"""Every head's scores on one prompt: computed a layer at a time, and cached as results."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.cache import Store
from workbench.cache.keys import digest
from workbench.head_scores import on_prompt, patterns
from workbench.head_scores.on_prompt import NAMES, prompt_scores, uniform_prompt_scores
from workbench.head_scores.on_prompts import ATTRIBUTION
from workbench.patching.memory import keep_freed_memory

#: Raise it when a number here changes: cached scores are then computed again.
VERSION = 3
#: Longer prompts are compared by patterns pooled to this many positions.
POOLED = 128
#: Entries of patterns that are scored together, so that they stay in the processor's cache.
MAX_ENTRIES = 2**20
#: Besides the pattern scores: those of uniform attention, and the cosine of every two heads' patterns.
UNIFORM, COSINES = "uniform", "cosines"
#: Direct logit attribution, and the same with the heads' values averaged uniformly.
UNIFORM_ATTRIBUTION = "uniform_attribution"
ARRAYS = (*NAMES, UNIFORM, COSINES, ATTRIBUTION, UNIFORM_ATTRIBUTION)

Scores = Mapping[str, Tensor]


def cached_scores(
    store: Store, identity: bytes | None, ids: Int[Tensor, "pos"], compute: Callable[[], Scores]
) -> Scores:
    """The arrays of `ARRAYS`, from the cache, or else from `compute`."""
    if identity is None:
        return compute()
    keys = {name: digest(identity, "look", VERSION, on_prompt.VERSION, ids, name) for name in ARRAYS}
    cached = store.read_many(list(keys.values()))
    if len(cached) == len(keys):
        return {name: cached[key] for name, key in keys.items()}
    computed = compute()
    store.put("result", {name: ([key], computed[name][None]) for name, key in keys.items()})
    return computed


@torch.no_grad()
def score_patterns(pattern_of: Callable[[int], Tensor], n_layers: int, ids: Int[Tensor, "pos"]) -> Scores:
    """Scores of all heads: name → ``[layer, head]``; `UNIFORM` → one number per score; `COSINES` → ``[head, head]`` in
    order of layer and head: the cosine of their patterns, both less the uniform pattern (patterns of more than
    `POOLED` positions are pooled to so many).

    Args:
        pattern_of: layer → its patterns ``[head, dest, src]``.
    """
    rows: dict[str, list[Tensor]] = {name: [] for name in NAMES}
    directions, uniform_pattern = [], _pool(patterns.uniform(len(ids))[None].float())[0]
    with keep_freed_memory():
        for layer in range(n_layers):
            A = pattern_of(layer)
            parts = [prompt_scores(heads, ids) for heads in A.split(max(1, MAX_ENTRIES // A[0].numel()))]
            for name in NAMES:
                rows[name].append(torch.cat([part[name] for part in parts]))
            directions.append(patterns.centred(_pool(A), uniform_pattern, skip=0))
    scores = {name: torch.stack(by_layer).cpu() for name, by_layer in rows.items()}
    stacked, chance = torch.cat(directions), uniform_prompt_scores(ids)
    uniform = torch.tensor([chance[name] for name in NAMES], dtype=torch.float64)
    return {**scores, UNIFORM: uniform, COSINES: (stacked @ stacked.T).cpu()}


def _pool(A: Float[Tensor, "head dest src"]) -> Float[Tensor, "head row column"]:
    return torch.nn.functional.adaptive_avg_pool2d(A, POOLED) if A.shape[-1] > POOLED else A
