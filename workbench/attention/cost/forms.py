"""The forms of attention by which operators are priced: `Operator.form` names one.

====================== ================================================================================================
softmax                softmax, sliding-window, neighbourhood, context-causal, layout-mask, masked-reference,
                       alternating-subregion, joint-block, pattern-reordered: masks that are known beforehand
shared softmax         fixed-qk
two softmaxes          interleaved-space-time
polynomial             second-order, through its weights; ``polynomial state`` as a recurrence
query-free             query-free
position-wise          mlp
mean, stored weights   uniform, static
block-selected softmax block-mixture, video-block-mixture, bi-level-routing
pooled softmax         pyramid-sparse
proxy-selected softmax proxy-heads
linear                 linear, block-linear, simplified-linear (its convolution is not counted)
decayed linear         lightning
delta                  delta, gated-delta
gradient memory        moneta, yaad, memora
chunk states           recurrent-chunks
reversed softmax       reversed
====================== ================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from workbench.arguments import one_of
from workbench.attention.cost import cascades, workload
from workbench.attention.cost.passes import QUERIES, einsums, levels, passes
from workbench.attention.cost.workload import Workload

Count = Callable[[Workload], int]


@dataclass(frozen=True, kw_only=True)
class Form:
    """How an operator computes z.

    Counts are of one head and input. A multiplication and an addition are one FLOP each; projections, norms, masks and
    the division of a softmax are not counted.

    Attributes:
        title: what it computes.
        cascade: the kernel's Einsums. written: those of the definition, with every weight.
        reads: keys and values are read by every tile of queries (``"tiles"``); everything is read once
            (``"once"``), or the values alone (``"values once"``); or stored weights once, and values by every tile
            (``"values"``).
        pairs: pairs of a query and a key that are weighed; None: no pairs are.
        weigh: FLOPs, those of the selection apart. exponentials: exponentials, powers and logarithms; those of features
            are elu's.
        state: numbers that are kept to continue after the last position; None: it cannot continue.
        per_head: whether that is for each head; else for each KV head.
        shared: numbers of it that all inputs of a batch share.
        in_a_row: attentions in a row; pairs are those of all.
        score: pairs that are scored to select; their keys are read by every tile of queries.
        pool: numbers that are read once more, and summed by blocks.
    """

    title: str
    cascade: str
    written: str
    reads: Literal["tiles", "once", "values", "values once"] = "tiles"
    pairs: Count | None = lambda work: work.seen
    weigh: Count = workload.weighing
    exponentials: Count = lambda work: work.seen
    state: Count | None = workload.keys_and_values
    per_head: bool = False
    shared: Count = lambda _: 0
    in_a_row: int = 1
    score: Count = lambda _: 0
    pool: Count = lambda _: 0

    def flops(self, work: Workload) -> int:
        """FLOPs of one head: ``weigh + 2 · score · d_head + pool``."""
        return self.weigh(work) + 2 * self.score(work) * work.d_head + self.pool(work)

    @property
    def passes(self) -> int:
        """Passes over the keys, those that select included."""
        return passes(self.cascade)

    @property
    def passes_to_select(self) -> int:
        """Passes over the keys before it is known which of them are attended to."""
        selected = levels(self.cascade).get("SELECTED")
        return 0 if selected is None else selected.passes

    @property
    def passes_as_written(self) -> int:
        """Passes over the keys of the definition (after the selection, where there is one)."""
        return passes(self.written)

    @property
    def passes_over_queries(self) -> int:
        """Passes over the queries: 1, unless weights are normalised over them."""
        return max(passes(self.cascade, QUERIES), 1)

    @property
    def passes_to_spill(self) -> int:
        """Passes of the definition over keys or queries, if it has an intermediate for every pair of them; else 1."""
        lines = einsums(self.written)
        has_pairs = any({"m0"} < line.output.ranks and line.output.ranks & {"p", "p0"} for line in lines)
        return max(passes(lines), passes(lines, QUERIES), 1) if has_pairs else 1


FORMS: dict[str, Form] = {
    "softmax": Form(
        title="softmax over visible keys, or those of a mask that is known beforehand",
        cascade=cascades.RUNNING_SOFTMAX,
        written=cascades.SOFTMAX,
    ),
    "shared softmax": Form(
        title="softmax of queries and keys that are the same for all inputs (fixed-qk)",
        cascade=cascades.RUNNING_SOFTMAX,
        written=cascades.SOFTMAX,
        state=lambda work: work.length * work.values,
        shared=lambda work: work.length * work.d_head,
    ),
    "two softmaxes": Form(
        title="softmax attention, its result added to the values, and softmax attention again",
        cascade=cascades.TWO_RUNNING_SOFTMAXES,
        written=cascades.TWO_SOFTMAXES,
        in_a_row=2,
        state=None,
    ),
    "polynomial": Form(
        title="positive weights that need no maximum, such as 1 + x + x²/2",
        cascade=cascades.UNSTABLE_SOFTMAX_DEFERRED,
        written=cascades.UNSTABLE_SOFTMAX,
        exponentials=lambda _: 0,
    ),
    "polynomial state": Form(
        title="the same as linear attention of features 1, k and k kᵀ",
        cascade=cascades.LINEAR,
        written=cascades.LINEAR_WEIGHTS,
        reads="once",
        pairs=None,
        per_head=True,
        weigh=lambda work: workload.linear(work, 1 + work.d_head + work.d_head**2, normalised=True),
        exponentials=lambda _: 0,
        state=lambda work: (1 + work.d_head + work.d_head**2) * (work.values + 1),
    ),
    "query-free": Form(
        title="softmax of logits that the keys alone have",
        cascade=cascades.RUNNING_QUERY_FREE,
        written=cascades.QUERY_FREE,
        reads="once",
        pairs=None,
        per_head=True,
        weigh=lambda work: 2 * work.length * (work.width + 1),
        exponentials=lambda work: work.length,
        state=lambda work: work.values + 2,  # numerator, denominator, maximum
    ),
    "position-wise": Form(
        title="nothing moves between positions",
        cascade=cascades.POSITION_WISE,
        written=cascades.POSITION_WISE,
        reads="values once",
        pairs=None,
        per_head=True,
        weigh=lambda _: 0,
        exponentials=lambda _: 0,
        state=lambda _: 0,
    ),
    "mean": Form(
        title="the mean of the values",
        cascade=cascades.MEAN,
        written=cascades.MEAN,
        reads="values once",
        pairs=None,
        per_head=True,
        weigh=lambda work: work.length * work.values,
        exponentials=lambda _: 0,
        state=lambda work: work.values,
    ),
    "stored weights": Form(
        title="weights that are parameters",
        cascade=cascades.STORED_WEIGHTS,
        written=cascades.STORED_WEIGHTS,
        reads="values",
        weigh=lambda work: 2 * work.seen * work.values,
        exponentials=lambda _: 0,
        state=lambda work: work.length * work.values,
    ),
    "block-selected softmax": Form(
        title="softmax over blocks of keys, selected by their means",
        cascade=cascades.BLOCK_MEANS_SOFTMAX,
        written=cascades.SOFTMAX,
        state=lambda work: work.length * work.width + work.n_blocks * work.d_head,
        score=lambda work: work.scored_blocks,
        pool=lambda work: work.length * work.d_head,
    ),
    "pooled softmax": Form(
        title="softmax over blocks of keys, each pooled as its largest weight ranks",
        cascade=cascades.POOLED_SOFTMAX,
        written=cascades.SOFTMAX,
        exponentials=lambda work: work.seen + work.n_blocks**2,
        score=lambda work: work.scored_keys,
        pool=workload.keys_and_values,
    ),
    "proxy-selected softmax": Form(
        title="softmax over blocks of keys, selected by the weights of a mean head",
        cascade=cascades.PROXY_SOFTMAX,
        written=cascades.SOFTMAX,
        exponentials=lambda work: work.seen + work.scored_keys,
        score=lambda work: work.scored_keys,
    ),
    "linear": Form(
        title="features of queries and keys, normalised",
        cascade=cascades.LINEAR,
        written=cascades.LINEAR_WEIGHTS,
        reads="once",
        pairs=None,
        per_head=True,
        weigh=lambda work: workload.linear(work, work.d_head, normalised=True),
        exponentials=lambda work: 2 * work.length * work.d_head,
        state=lambda work: work.d_head * (work.values + 1),
    ),
    "decayed linear": Form(
        title="queries times a decaying sum of keys and values",
        cascade=cascades.DECAYED_LINEAR,
        written=cascades.DECAYED_WEIGHTS,
        reads="once",
        pairs=None,
        per_head=True,
        weigh=lambda work: workload.linear(work, work.d_head, normalised=False),
        exponentials=lambda _: 0,
        state=lambda work: work.d_head * work.values,
    ),
    "delta": Form(
        title="a delta rule, in chunks",
        cascade=cascades.DELTA,
        written=cascades.DELTA,
        reads="once",
        pairs=None,
        per_head=True,
        weigh=workload.delta,
        exponentials=lambda _: 0,
        state=lambda work: work.d_head * work.values,
    ),
    "gradient memory": Form(
        title="a matrix that takes a gradient step at every key, and a function of it (moneta, yaad, memora)",
        cascade=cascades.GRADIENT_MEMORY,
        written=cascades.GRADIENT_MEMORY,
        reads="once",
        pairs=None,
        per_head=True,
        weigh=lambda work: 8 * work.length * work.d_head * work.values,  # error 2, gradient 1, decay and step 3, read 2
        exponentials=lambda work: work.length * work.d_head * work.values,
        state=lambda work: work.d_head * work.values,
    ),
    "chunk states": Form(
        title="softmax over the last gated key of each chunk, and the query's own",
        cascade=cascades.CHUNK_STATES,
        written=cascades.CHUNK_STATES,
        pairs=lambda work: work.chunk_state_pairs,
        weigh=lambda work: 2 * (work.chunk_state_pairs + work.length) * work.width,  # the pool is the gates' third FLOP
        exponentials=lambda work: work.chunk_state_pairs,
        state=lambda work: (work.length // work.block + 1) * work.width,
        per_head=True,
        pool=workload.keys_and_values,
    ),
    "reversed softmax": Form(
        title="softmax over receivers: a key's weights sum to one",
        cascade=cascades.RUNNING_REVERSED,
        written=cascades.REVERSED,
        state=None,
    ),
}


def form(name: str) -> Form:
    """The form of a name.

    Raises:
        UnknownName: no such form; the nearest are suggested.
    """
    return FORMS[one_of("form", name, FORMS)]
