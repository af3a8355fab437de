"""What was computed of patterns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Tensor

from workbench.attention.statistics.requested import Requested

Rows = Float[Tensor, "batch head dest"]
Keys = Float[Tensor, "batch head src"]


@dataclass
class PatternStatistics:
    """Statistics of patterns ``A[batch, head, dest, src]``; None for what was not requested.

    Attributes:
        mass: ``Σ_k A[q, k]``: 1, less what a sink takes; 0 in a row that sees nothing.
        entropy: ``−Σ_k A log A``, in nats.
        distance: ``Σ_k A[q, k] (q − k)``, in positions: how far back the row looks; negative where it looks ahead.
        value_weighted: ``Σ_k A[q, k] n[k]`` for norms n of what each source would write.
        z: ``Σ_k A[q, k] v[k]``.
        at_sources: ``A[q, k]`` for each requested source k. at_offsets: ``A[q, q − d]`` for each requested offset d;
            0 where there is no such position.
        received: ``Σ_q A[q, k]``.
        matched: name → ``Σ_q A[q, k]`` over the destinations that k matches. unmatched: the same over the other later
            destinations (q > k).
        pooled: means over blocks of destinations and sources, with the bins of ``torch``'s ``adaptive_avg_pool2d``.
        largest: the largest weight of each block of destinations and sources; the last blocks may be smaller.
        top_sources, top_weights: the sources of the largest weights of each row, the largest first; −1 where fewer
            sources have any weight.
    """

    mass: Rows
    entropy: Rows | None = None
    distance: Rows | None = None
    value_weighted: Rows | None = None
    z: Float[Tensor, "batch head dest d_value"] | None = None
    at_sources: Float[Tensor, "batch head source dest"] | None = None
    at_offsets: Float[Tensor, "batch head offset dest"] | None = None
    received: Keys | None = None
    matched: dict[str, Keys] = field(default_factory=dict)
    unmatched: dict[str, Keys] = field(default_factory=dict)
    pooled: Float[Tensor, "batch head row column"] | None = None
    largest: Float[Tensor, "batch head row column"] | None = None
    top_sources: Int[Tensor, "batch head dest top"] | None = None
    top_weights: Float[Tensor, "batch head dest top"] | None = None


def assembled(
    results: Mapping[str, Tensor], of_matches: Mapping[str, Mapping[str, Tensor]], requested: Requested
) -> PatternStatistics:
    """What is requested of what was computed. Where a set of matches has no `unmatched`, it is what the key receives
    less its own share and the matches', for which `results` has the offset 0 last."""
    unmatched = {
        name: each["unmatched"]
        if "unmatched" in each
        else results["received"] - results["at_offsets"][..., -1, :] - each["matched"]
        for name, each in of_matches.items()
    }
    statistics = {name: x for name, x in results.items() if name != "received" or requested.received}
    statistics["at_offsets"] = statistics["at_offsets"][..., : len(requested.offsets), :]
    return PatternStatistics(
        **{name: x for name, x in statistics.items() if x.numel() or name not in ("at_sources", "at_offsets")},
        matched={name: each["matched"] for name, each in of_matches.items()},
        unmatched=unmatched,
    )
