"""`pattern_statistics`: statistics of patterns from q and k."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.attention.statistics import fused
from workbench.attention.statistics.by_tiles import tiled_statistics
from workbench.attention.statistics.requested import Formula, Requested
from workbench.attention.statistics.result import PatternStatistics


@torch.no_grad()
def pattern_statistics(
    q: Float[Tensor, "batch head pos d_head"],
    k: Float[Tensor, "batch kv_head pos d_head"],
    formula: Formula,
    requested: Requested,
    *,
    v: Float[Tensor, "batch kv_head pos d_value"] | None = None,
    value_norms: Float[Tensor, "batch head pos"] | None = None,
    mask: Bool[Tensor, "pos pos"] | None = None,
) -> PatternStatistics:
    """Statistics of ``A = softmax(cap · tanh(scale · q kᵀ / cap) + mask)``, without A.

    Computed at least in float32, and in float64 where q is. On the CPU row tiles are used, on an accelerator a fused
    kernel (`fused.fused_statistics`) wherever it can have all that is requested. Both take time in the square of the
    length, and memory in the length.

    Args:
        q, k: rotated, as the attention function receives them.
        formula: how the layer makes its pattern of them.
        v: for ``z``. value_norms: for ``value_weighted``, see `value_output_norms`.
        mask: what each destination sees, of what the formula lets it see; a row that sees nothing is 0.

    Raises:
        ValueError: q's heads are no multiple of k's, matches are for another length, or the formula is of another
            operator than softmax.

    Examples:
        >>> from workbench.models.pattern_formula import PatternFormula
        >>> q = k = torch.zeros(1, 2, 4, 8)  # attention is even
        >>> even = pattern_statistics(q, k, PatternFormula(scale=1, causal=True), Requested(distance=True))
        >>> even.distance[0, 0]
        tensor([0.0000, 0.5000, 1.0000, 1.5000])
    """
    if formula.operator is not None:
        raise ValueError(f"the pattern is of {formula.operator!r}: expected softmax, whose rows are made in tiles")
    if q.shape[1] % k.shape[1]:
        raise ValueError(f"{q.shape[1]} query heads cannot share {k.shape[1]} key/value heads: expected a multiple")
    for name, matches in requested.matches.items():
        if matches.length != q.shape[2]:
            raise ValueError(f"matches of {name!r} are for {matches.length} positions, and q has {q.shape[2]}")
    if q.device.type != "cpu" and mask is None and fused.can_compute(q, formula, requested):
        return fused.fused_statistics(q, k, formula, requested, v=v, value_norms=value_norms)
    return tiled_statistics(q, k, formula, requested, v=v, value_norms=value_norms, mask=mask)
