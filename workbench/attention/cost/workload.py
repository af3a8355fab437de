"""What an operator is run on, and counts of FLOPs and of state that several forms share: all of one head and input."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.arguments import flag, refusal, whole_number


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Attention on a number of positions.

    Attributes:
        length: positions: as many queries as keys.
        d_head: width of queries and keys. d_value: of values; None: the same.
        n_heads, n_kv_heads: heads; None: as many for keys and values. batch: inputs.
        causal: whether a position sees itself and earlier ones alone; else all. Recurrences over blocks that see all of
            themselves (block-linear) need no weights within a block: they count as not causal.
        pairs: pairs of a query and a key that one head weighs; None: all that causality leaves.
        scored: pairs of a query and a block's mean (or a key, by the form) that are scored to select; None: all.
        block: keys of a chunk or block.
        bytes_each: bytes of a number.
    """

    length: int
    d_head: int = 64
    d_value: int | None = None
    n_heads: int = 1
    n_kv_heads: int | None = None
    batch: int = 1
    causal: bool = True
    pairs: int | None = None
    scored: int | None = None
    block: int = 64
    bytes_each: int = 4

    def __post_init__(self) -> None:
        for name in ("length", "d_head", "n_heads", "batch", "block", "bytes_each"):
            whole_number(name, getattr(self, name), at_least=1)
        for name in ("d_value", "n_kv_heads"):
            whole_number(name, getattr(self, name), at_least=1, optional=True)
        for name in ("pairs", "scored"):
            whole_number(name, getattr(self, name), at_least=0, at_most=self.length**2, optional=True)
        flag("causal", self.causal)
        if self.n_heads % self.kv_heads:
            raise refusal("n_kv_heads", self.n_kv_heads, f"a number that divides n_heads={self.n_heads}")

    @property
    def width(self) -> int:
        """Width of a key and a value together."""
        return self.d_head + self.values

    @property
    def values(self) -> int:
        """Width of a value."""
        return self.d_head if self.d_value is None else self.d_value

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def all_pairs(self) -> int:
        """Pairs of a query and a key that causality leaves."""
        return self.length * (self.length + 1) // 2 if self.causal else self.length**2

    @property
    def seen(self) -> int:
        """Pairs of a query and a key that are weighed."""
        return self.all_pairs if self.pairs is None else self.pairs

    @property
    def n_blocks(self) -> int:
        """Blocks, the last one perhaps shorter."""
        return -(-self.length // self.block)

    @property
    def block_sizes(self) -> list[tuple[int, int]]:
        """How many blocks there are of each size: ``[(count, size), …]``."""
        whole, rest = divmod(self.length, self.block)
        return [(whole, self.block), (int(rest > 0), rest)]

    @property
    def chunk_state_pairs(self) -> int:
        """Pairs of a query and the last position of an earlier block, or the query's own: ``Σ (i div block + 1)``."""
        whole, rest = divmod(self.length, self.block)
        return self.block * whole * (whole - 1) // 2 + rest * whole + self.length

    @property
    def scored_blocks(self) -> int:
        """Pairs of a query and a block that are scored."""
        return self.length * self.n_blocks if self.scored is None else self.scored

    @property
    def scored_keys(self) -> int:
        """Pairs of a query and a key that are scored beforehand."""
        return self.all_pairs if self.scored is None else self.scored


def weighing(work: Workload) -> int:
    """``2 · pairs · (d_head + d_value)``: scores, and sums of values."""
    return 2 * work.seen * work.width


def linear(work: Workload, features: int, normalised: bool) -> int:
    """A state of ``features × d_value`` numbers that every key adds to and every query reads: ``4 L D F``. Causal, in
    chunks of m, besides: weights and sums within each, ``2 m² (E + F)``. A normaliser is one value more (F + 1)."""
    values = work.values + normalised
    within = sum(n * 2 * m * m * (work.d_head + values) for n, m in work.block_sizes) if work.causal else 0
    return 4 * work.length * features * values + within


def delta(work: Workload) -> int:
    """In chunks of m (WY form): products of keys with keys and queries ``4 m² E``, a triangle solved for ``E + F``
    columns ``m² (E + F)``, weights times values ``2 m² F``, and three products with the state ``6 m E F``."""
    keys, values = work.d_head, work.values
    return sum(
        n * (m * m * (4 * keys + (keys + values) + 2 * values) + 6 * m * keys * values) for n, m in work.block_sizes
    )


def keys_and_values(work: Workload) -> int:
    """``L (d_head + d_value)``, of each KV head."""
    return work.length * work.width
