"""Bytes that attention moves between memory and a buffer near the arithmetic, and the state that it keeps."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.arguments import whole_number
from workbench.attention.cost.forms import Form
from workbench.attention.cost.workload import Workload

#: The buffer that is assumed: 1 MiB, an ordinary L2 cache of one core.
BUFFER = 1 << 20
#: Queries that are held in it at a time.
RESIDENT = 128


@dataclass(frozen=True)
class Traffic:
    """Bytes.

    Attributes:
        base: queries and outputs once, keys and values once for every tile of queries.
        footprint: what must be held between passes (or tiles); what does not fit is spilled or computed again.
        spill: writing and reading again one intermediate of all pairs for each further pass.
        recompute: reading the keys again for each further pass, in place of spilling.
    """

    base: int
    footprint: int
    spill: int
    recompute: int

    @property
    def moved(self) -> int:
        """The smaller of ``base + spill`` and ``base + recompute``."""
        return self.base + min(self.spill, self.recompute)


def attention_traffic(
    n_queries: int,
    n_keys: int,
    d_key: int,
    d_value: int,
    *,
    passes: int,
    bytes_each: int = 2,
    resident: int = RESIDENT,
    buffer: int = BUFFER,
    tile: int = 128,
) -> Traffic:
    """Bytes that softmax attention of one head moves, by the passes over the keys that it takes.

    With P queries, M keys, widths E and F, w bytes a number, P₀ queries resident, and a buffer of S bytes::

        base      = w [P E + P F + ⌈P / P₀⌉ (M E + M F)]
        footprint = w P₀ M, with one pass w P₀ · tile
        spill     = 2 w M P (passes − 1)                 if footprint > S, else 0
        recompute = w ⌈P / P₀⌉ M E (passes − 1)          if footprint > S, else 0

    Units: bytes. Nothing is skipped: for a causal or sparse mask see `bytes_moved`.

    Raises:
        UsageError: a count below 1.

    Source:
        Derived from FuseMax (arXiv 2406.10491): an n-pass cascade with n > 1 holds a whole fibre of the keys.

    Examples:
        >>> from workbench.attention.cost.traffic import attention_traffic
        >>> three = attention_traffic(4096, 4096, 64, 64, passes=3, buffer=128 << 10)
        >>> three.base >> 20, three.spill >> 20
        (33, 128)
    """
    counts = {"n_queries": n_queries, "n_keys": n_keys, "d_key": d_key, "d_value": d_value, "passes": passes}
    counts |= {"bytes_each": bytes_each, "resident": resident, "buffer": buffer, "tile": tile}
    for name, value in counts.items():
        whole_number(name, value, at_least=1)
    read = -(-n_queries // resident) * n_keys
    base = bytes_each * (n_queries * (d_key + d_value) + read * (d_key + d_value))
    footprint = bytes_each * min(resident, n_queries) * (n_keys if passes > 1 else min(tile, n_keys))
    if footprint <= buffer:
        return Traffic(base, footprint, 0, 0)
    further = passes - 1
    return Traffic(base, footprint, 2 * bytes_each * n_queries * n_keys * further, bytes_each * read * d_key * further)


def bytes_moved(form: Form, work: Workload, *, resident: int = RESIDENT, buffer: int = BUFFER) -> int:
    """Bytes that the kernel of a form moves, for all heads and inputs.

    Keys and values that are read by tiles of queries: ``w [L (E + F) + ⌈L / P₀⌉ n (E + F)]``, where n is the number of
    keys that a query sees on average, a lower bound (queries of a tile may see different ones); and
    ``w ⌈L / P₀⌉ s E`` for s keys (or blocks' means) that it scores to select. Read once: ``2 w L (E + F)``, and the
    state twice a chunk if it does not fit into the buffer; without queries and keys ``2 w L F``. What is pooled is read
    once more.

    A multi-pass kernel is taken to compute weights again rather than to store them. Units: bytes.

    Raises:
        UsageError: a count below 1.
    """
    whole_number("resident", resident, at_least=1)
    whole_number("buffer", buffer, at_least=1)
    tiles = -(-work.length // resident)
    pairs = 0 if form.pairs is None else form.pairs(work)
    if form.reads == "once":
        state = 0 if form.state is None else form.state(work)
        numbers = 2 * work.length * work.width + (2 * state * work.n_blocks if state * work.bytes_each > buffer else 0)
    elif form.reads == "values once":
        numbers = 2 * work.length * work.values
    elif form.reads == "values":
        numbers = work.length * work.values + _read(tiles, pairs, work.length) * work.values + pairs
    else:
        read = _read(tiles, pairs, work.length)
        further = max(form.passes_over_queries, form.passes - form.passes_to_select) - form.in_a_row
        numbers = form.in_a_row * work.length * work.width + read * work.width + further * read * work.d_head
        numbers += _read(tiles, form.score(work), work.length) * work.d_head
    return work.bytes_each * (numbers + form.pool(work)) * work.n_heads * work.batch


def state_bytes(form: Form, work: Workload) -> int | None:
    """Bytes that are kept to continue after the last position, for all inputs; None if it cannot continue.

    Keys and values are kept for each KV head, a recurrent state for each head.
    """
    if form.state is None:
        return None
    heads = work.n_heads if form.per_head else work.kv_heads
    return work.bytes_each * heads * (work.batch * form.state(work) + form.shared(work))


def _read(tiles: int, pairs: int, length: int) -> int:
    """Keys that tiles of queries read: ``⌈tiles · pairs / length⌉``."""
    return -(-tiles * pairs // length)
