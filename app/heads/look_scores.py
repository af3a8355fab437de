"""Every head's scores on one prompt: computed a layer at a time, and kept in the cache as results."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.cache import Store
from workbench.cache.keys import digest
from workbench.head_scores import patterns
from workbench.head_scores.on_prompt import NAMES, prompt_scores, uniform_prompt_scores
from workbench.head_scores.on_prompts import ATTRIBUTION
from workbench.patching.memory import keep_freed_memory

#: Raise it when something here changes: what was kept is then computed anew.
VERSION = 1
#: Longer prompts are compared by patterns pooled to this many positions.
POOLED = 128
#: Entries of patterns that are scored at once, so that they stay in the processor's cache.
AT_ONCE = 2**20
#: Beside the pattern scores: the same of a uniform head, and the cosine of every two heads' patterns.
UNIFORM, COSINES = "uniform", "cosines"
#: Direct logit attribution, and the same with the heads' values averaged uniformly.
EVEN = "uniform_attribution"
KEPT = (*NAMES, UNIFORM, COSINES, ATTRIBUTION, EVEN)

Scores = Mapping[str, Tensor]


def kept(store: Store, identity: bytes | None, ids: Int[Tensor, "pos"], make: Callable[[], Scores]) -> Scores:
    """The arrays `KEPT`, from the cache where they are there and else from `make`."""
    if identity is None:
        return make()
    keys = {name: digest(identity, "look", VERSION, ids, name) for name in KEPT}
    there = store.read_many(list(keys.values()))
    if len(there) == len(keys):
        return {name: there[key] for name, key in keys.items()}
    made = make()
    store.put("result", {name: ([key], made[name][None]) for name, key in keys.items()})
    return made


@torch.no_grad()
def of_patterns(pattern_of: Callable[[int], Tensor], n_layers: int, ids: Int[Tensor, "pos"]) -> Scores:
    """Scores of all heads: name → ``[layer, head]``; `UNIFORM` → one number a score; `COSINES` → ``[head, head]`` in
    order of layer and head: the cosine of their patterns, both less the uniform pattern (patterns of more than
    `POOLED` positions are pooled to so many).

    Args:
        pattern_of: layer → its patterns ``[head, dest, src]``.
    """
    rows: dict[str, list[Tensor]] = {name: [] for name in NAMES}
    directions, even = [], _small(patterns.uniform(len(ids))[None].float())[0]
    with keep_freed_memory():
        for layer in range(n_layers):
            A = pattern_of(layer)
            parts = [prompt_scores(some, ids) for some in A.split(max(1, AT_ONCE // A[0].numel()))]
            for name in NAMES:
                rows[name].append(torch.cat([part[name] for part in parts]))
            directions.append(patterns.centred(_small(A), even, skip=0))
    found = {name: torch.stack(each).cpu() for name, each in rows.items()}
    every, level = torch.cat(directions), uniform_prompt_scores(ids)
    uniform = torch.tensor([level[name] for name in NAMES], dtype=torch.float64)
    return {**found, UNIFORM: uniform, COSINES: (every @ every.T).cpu()}


def _small(A: Float[Tensor, "head dest src"]) -> Float[Tensor, "head row column"]:
    return torch.nn.functional.adaptive_avg_pool2d(A, POOLED) if A.shape[-1] > POOLED else A
