"""Every head's scores on one prompt: computed a layer at a time, and cached as results."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.attention.statistics import pattern_statistics
from workbench.cache import Store
from workbench.cache.keys import digest
from workbench.head_scores import on_prompt, patterns
from workbench.head_scores.on_prompt import (
    NAMES,
    counted_positions,
    prompt_scores,
    required_statistics,
    scores_of,
    token_matches,
    uniform_statistics,
)
from workbench.head_scores.on_prompts import ATTRIBUTION
from workbench.models.attention_edits import Tap
from workbench.models.pattern_formula import PatternFormula
from workbench.models.precision import at_least_float32

#: Raise it when a number here changes: cached scores are then computed again.
VERSION = 4
#: Longer prompts are compared by patterns pooled to this many positions.
POOLED = 128
#: Entries of explicit patterns that are scored together, so that they stay in the processor's cache.
MAX_ENTRIES = 2**20
#: Besides the pattern scores: those of uniform attention, and the cosine of every two heads' patterns.
UNIFORM, COSINES = "uniform", "cosines"
#: Direct logit attribution, and the same with the heads' values averaged uniformly.
UNIFORM_ATTRIBUTION = "uniform_attribution"
ARRAYS = (*NAMES, UNIFORM, COSINES, ATTRIBUTION, UNIFORM_ATTRIBUTION)

Scores = Mapping[str, Tensor]


def _keys(identity: bytes, ids: Int[Tensor, "pos"]) -> dict[str, bytes]:
    return {name: digest(identity, "look", VERSION, on_prompt.VERSION, ids, name) for name in ARRAYS}


def read_scores(store: Store, identity: bytes | None, ids: Int[Tensor, "pos"]) -> Scores | None:
    """The arrays of `ARRAYS`, where the cache has all of them."""
    if identity is None:
        return None
    keys = _keys(identity, ids)
    cached = store.read_many(list(keys.values()))
    return {name: cached[key] for name, key in keys.items()} if len(cached) == len(keys) else None


def store_scores(store: Store, identity: bytes | None, ids: Int[Tensor, "pos"], scores: Scores) -> None:
    """Keep the arrays of `ARRAYS`."""
    if identity is not None:
        store.put("result", {name: ([key], scores[name][None]) for name, key in _keys(identity, ids).items()})


class PromptScores:
    """What is computed of one prompt while the model runs, a layer at a time: the scores of every head's pattern, and
    what direct logit attribution needs.

    Args:
        ids: the prompt's tokens.

    Attributes:
        last_z: layer → z of the last position. mean_values: layer → the values' mean over positions.
    """

    def __init__(self, ids: Int[Tensor, "pos"]) -> None:
        self._ids, self._matches = ids, token_matches(ids)
        self._requested = required_statistics(self._matches, POOLED)
        self._uniform = uniform_statistics(len(ids), self._requested)
        self._scores: dict[int, Mapping[str, Tensor]] = {}
        self._directions: dict[int, Tensor] = {}
        self.last_z: dict[int, Float[Tensor, "head d_head"]] = {}
        self.mean_values: dict[int, Float[Tensor, "kv_head d_head"]] = {}

    def __contains__(self, layer: int) -> bool:
        return layer in self._scores

    def has_all(self, layers: Collection[int]) -> bool:
        """Whether the model has run; layers without a softmax of q and k may be missing."""
        return all(layer in self.last_z for layer in layers)

    def taps(self, model: Any) -> dict[str, Tap]:
        """What the run taps besides q, k and v."""

        def tap(layer: int) -> Tap:
            def keep(z: Tensor) -> None:
                self.last_z[layer] = z[0, -1].clone()

            return keep

        return {model.hook_name("z", layer): tap(layer) for layer in range(model.n_layers)}

    @torch.no_grad()
    def see(
        self,
        layer: int,
        q: Float[Tensor, "1 head pos d_head"],
        k: Float[Tensor, "1 kv_head pos d_head"],
        v: Float[Tensor, "1 kv_head pos d_head"],
        formula: PatternFormula | None,
    ) -> None:
        """A layer by its q and k, unless its pattern takes more or is another operator's. Patterns of more than
        `POOLED` positions are compared as maps of so many."""
        self.mean_values[layer] = at_least_float32(v[0]).mean(1)
        if formula is None or formula.operator is not None:
            return
        statistics = pattern_statistics(q, k, formula, self._requested)
        assert statistics.pooled is not None
        self._enter(layer, scores_of(statistics, self._matches), statistics.pooled)

    @torch.no_grad()
    def add_pattern(self, layer: int, A: Float[Tensor, "batch head dest src"]) -> None:
        """A layer by its pattern, where that takes more than q and k."""
        parts = [prompt_scores(heads, self._ids) for heads in A[0].split(max(1, MAX_ENTRIES // A[0, 0].numel()))]
        self._enter(layer, {name: torch.cat([part[name] for part in parts])[None] for name in NAMES}, _pool(A))

    def _enter(self, layer: int, scores: Mapping[str, Tensor], maps: Float[Tensor, "1 head row column"]) -> None:
        assert self._uniform.pooled is not None
        self._scores[layer] = scores
        self._directions[layer] = patterns.centred(maps[0], self._uniform.pooled[0, 0].float(), skip=0)

    def scores(self) -> Scores:
        """Name → ``[layer, head]``; `UNIFORM` → one number per score; `COSINES` → ``[head, head]`` in order of layer
        and head: the cosine of their patterns or maps, both less the uniform one, and NaN of a pattern that is it."""
        layers = sorted(self._scores)
        scores = {name: torch.cat([self._scores[layer][name] for layer in layers]).cpu() for name in NAMES}
        chance, stacked = scores_of(self._uniform, self._matches), torch.cat([self._directions[i] for i in layers])
        uniform = torch.tensor([float(chance[name]) for name in NAMES], dtype=torch.float64)
        cosines = (stacked @ stacked.T).cpu()
        if not stacked.shape[1]:  # one position: there is nothing to compare
            cosines.fill_(torch.nan)
        return {**scores, UNIFORM: uniform, COSINES: cosines}

    def counted_positions(self) -> dict[str, int]:
        """Over how many positions each score is a mean."""
        return counted_positions(self._ids, self._matches)


def _pool(A: Float[Tensor, "batch head dest src"]) -> Float[Tensor, "batch head row column"]:
    return torch.nn.functional.adaptive_avg_pool2d(A, POOLED) if A.shape[-1] > POOLED else A
