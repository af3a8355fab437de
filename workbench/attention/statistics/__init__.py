"""Statistics of attention patterns, computed from q and k without the patterns: entropy, sink, distance, mass at
offsets, what each key receives, matches of equal tokens, pooled maps, largest weights of blocks, strongest sources,
value-weighted norms.

`pattern_statistics` computes what a `Requested` names, `PatternStatistics` holds it. On the CPU rows are taken in tiles
that fit the processor's cache (``tiles``), on an accelerator each statistic is attention with other values (``fused``).
Nothing as large as a pattern, ``[dest, src]``, is made.
"""

from workbench.attention.statistics.compute import pattern_statistics
from workbench.attention.statistics.matches import TokenMatches
from workbench.attention.statistics.requested import Formula, Requested
from workbench.attention.statistics.result import PatternStatistics
from workbench.attention.statistics.value_norms import value_output_norms

__all__ = ["Formula", "PatternStatistics", "Requested", "TokenMatches", "pattern_statistics", "value_output_norms"]
