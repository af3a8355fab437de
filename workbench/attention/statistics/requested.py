"""What is computed of patterns, and how a layer makes its patterns of q and k."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from workbench.attention.statistics.matches import TokenMatches


class Formula(Protocol):
    """``pattern = softmax(cap · tanh(scale · q kᵀ / cap) + mask)``: `workbench.models.pattern_formula.PatternFormula`.

    `window` counts the positions that a destination sees, itself included; `sinks` has one more logit for each head,
    which takes its share of every row and has no source. Of another `operator` than softmax there are no statistics.
    """

    @property
    def scale(self) -> float: ...
    @property
    def causal(self) -> bool: ...
    @property
    def window(self) -> int | None: ...
    @property
    def softcap(self) -> float | None: ...
    @property
    def sinks(self) -> tuple[float, ...] | None: ...
    @property
    def operator(self) -> str | None: ...


@dataclass(frozen=True)
class Requested:
    """Which statistics to compute; see `PatternStatistics` for what each is.

    Attributes:
        sources: source positions whose weight is returned, row by row (``(0,)`` for the sink).
        offsets: distances back from the destination, the same (1 is the previous token); negative ones lie ahead.
        matches: name → matching keys, for `matched` and `unmatched`.
        pooled: positions of the pooled maps; shorter patterns are not pooled.
        largest: positions of a block, of whose entries the largest is returned.
        top: how many strongest sources of each row.
    """

    entropy: bool = False
    distance: bool = False
    received: bool = False
    sources: tuple[int, ...] = ()
    offsets: tuple[int, ...] = ()
    matches: Mapping[str, TokenMatches] = field(default_factory=dict)
    pooled: int | None = None
    largest: int | None = None
    top: int = 0
