"""Statistics of patterns from row tiles."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.attention.statistics import collectors
from workbench.attention.statistics.requested import Formula, Requested
from workbench.attention.statistics.result import PatternStatistics, assembled
from workbench.attention.statistics.tiles import row_tiles


@torch.no_grad()
def tiled_statistics(
    q: Float[Tensor, "batch head pos d_head"],
    k: Float[Tensor, "batch kv_head pos d_head"],
    formula: Formula,
    requested: Requested,
    *,
    v: Float[Tensor, "batch kv_head pos d_value"] | None = None,
    value_norms: Float[Tensor, "batch head pos"] | None = None,
    mask: Bool[Tensor, "pos pos"] | None = None,
) -> PatternStatistics:
    """As `pattern_statistics`, from tiles of 64 rows of the heads that share a key/value head."""
    batch, heads = q.shape[:2]
    kv_heads, dtype = k.shape[1], torch.promote_types(q.dtype, torch.float32)

    def by_unit(x: Tensor) -> Tensor:
        return x.unflatten(1, (kv_heads, -1)).flatten(0, 1)  # [unit, group, ...]

    query = by_unit(q.to(dtype))
    # Where the pairs are listed, the others are all later destinations less them.
    listed = {name for name, each in requested.matches.items() if formula.causal and each.listed}
    entries = collectors.Entries(query, requested.sources, (*requested.offsets, *((0,) if listed else ())))
    matched = {name: collectors.Matched(query, each, name in listed) for name, each in requested.matches.items()}
    every: list[collectors.Collector] = [collectors.Mass(query), entries, *matched.values()]
    if requested.entropy:
        every.append(collectors.Entropy(query))
    if requested.distance:
        every.append(collectors.Distance(query))
    if requested.pooled is not None or requested.received or listed:
        every.append(collectors.Pooled(query, requested.pooled, requested.received or bool(listed)))
    if requested.largest is not None:
        every.append(collectors.Largest(query, requested.largest))
    if v is not None:
        every.append(collectors.WeightedValues(query, v.shape[-1]))
    if value_norms is not None:
        every.append(collectors.WeightedNorms(query, by_unit(value_norms)))
    if requested.top:
        every.append(collectors.Top(query, requested.top))

    sinks = None
    if formula.sinks is not None:
        sinks = torch.tensor(formula.sinks, dtype=dtype, device=q.device).view(kv_heads, -1).repeat(batch, 1)
    values = None if v is None else v.flatten(0, 1)
    keys = k.to(dtype).flatten(0, 1)
    for tile in row_tiles(query, keys, formula, distance=requested.distance, values=values, sinks=sinks, mask=mask):
        for each in every:
            each.add(tile)

    def by_head(results: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: x.reshape(batch, heads, *x.shape[2:]) for name, x in results.items()}

    of_patterns = by_head(
        {name: x for each in every if each not in matched.values() for name, x in each.results().items()}
    )
    of_matches = {name: by_head(each.results()) for name, each in matched.items()}
    return assembled(of_patterns, of_matches, requested)
