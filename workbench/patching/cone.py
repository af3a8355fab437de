"""The light cone: many edited runs in one pass through the layers.

An edit at depth L and position p can change only depths ≥ L and, in a causal model, positions ≥ p. So the edited runs
go through the layers together, those of several inputs too: each is a row of the batch and joins it at the input of
the depth of its first edit, carrying only positions from `start` on; rows that joined earlier pass through. Every depth
is called once for each chunk of rows.

The matrix work of an exact sweep over all heads, with w weights a layer, H heads, L layers and P = T − start positions,
is ``2 w H P L (L + 1) / 2`` flop per input, against ``2 (w T L + vocabulary · d_model · T) H L`` for full forwards.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from workbench.errors import HookError
from workbench.models.attention_edits import PartialTap
from workbench.models.resumable import BaseRun, NotFinite, ResumableModel, StopForward, Stream, Tap

#: Rows × positions of a full chunk: large enough for the matrix units, small enough for the processor's cache.
CHUNK = 2048


def first_changed(resumable: ResumableModel, position: int) -> int:
    """The first position that a change at a position can reach: that itself where attention is causal, 0 where it is
    not, and in between where a model says so (`first_changed(position)`, for operators that attend by block)."""
    if not resumable.causal:
        return 0
    by_block = getattr(resumable, "first_changed", None)
    return position if by_block is None else by_block(position)


@dataclass(frozen=True)
class EachPosition:
    """A change of each position by itself, so that no other has to be computed for it:
    ``change(activation [pos, ...], positions [pos]) -> [pos, ...]``, where a pattern is ``[dest, ..., src]``."""

    change: Callable[[Tensor, Int[Tensor, "pos"]], Tensor]

    def __call__(self, x: Shaped[Tensor, "pos *rest"], first: int = 0) -> Shaped[Tensor, "pos *rest"]:
        """The changed activation of the positions from `first` on."""
        return self.change(x, torch.arange(first, first + len(x), device=x.device))


@dataclass(frozen=True)
class Write:
    """One edit of one run at one site.

    Attributes:
        depth, hook: where.
        head: the head, or None for all (and for sites without heads).
        position: the position (for a pattern the destination), or None for all.
        value: what is written. With a position: its activation (``[d_head]``, ``[head, d_head]``, ``[d_model]``, or for
            a pattern ``[src]``). Without: one for each position, the first of them at `first`. Or a function of the
            current activation (of all positions at once, or of `EachPosition`).
        first: the position of ``value[0]``.
    """

    depth: int
    hook: str
    value: Tensor | Callable[[Tensor], Tensor]
    head: int | None = None
    position: int | None = None
    first: int = 0
    expand: str = ""

    @property
    def needs_all_positions(self) -> bool:
        """Whether the value is a function that may read several positions at once."""
        return self.position is None and callable(self.value) and not isinstance(self.value, EachPosition)


@dataclass(frozen=True)
class EditedRun:
    """One edited run: the input it edits, and its writes."""

    input: int
    writes: tuple[Write, ...]

    @property
    def depth(self) -> int:
        """Where it departs from the base run."""
        return min(write.depth for write in self.writes)


@contextmanager
def naming_edits(runs: Sequence[EditedRun], n_layers: int) -> Iterator[None]:
    """While it lasts, NaN that a model reports while it samples is said to follow the edits of that row's run; rows are
    those of `runs`."""
    try:
        yield
    except NotFinite as error:
        if not runs:
            raise
        names = []
        for write in runs[error.row].writes:
            step, layer = divmod(write.depth, n_layers)
            head = "" if write.head is None else f" of head {layer}.{write.head}"
            if step <= error.step:
                names.append(f"{write.hook}{head} in step {step}")
        names = list(dict.fromkeys(names))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise error.after(f"the edit at {', '.join(names[:3])}{more}") from None


#: Called with indices of runs (in the list passed to `run_edited`), the first position, and their activation.
Observer = Callable[[Sequence[int], int, Tensor], None]


@torch.no_grad()
def run_edited(
    resumable: ResumableModel,
    base: BaseRun,
    runs: Sequence[EditedRun],
    start: int,
    *,
    tokens: Int[Tensor, "n"] | None = None,
    chunk: int | None = None,
    frozen: Callable[[int], Shaped[Tensor, "input pos head d_head"] | None] | None = None,
    observe: Mapping[tuple[int, str], Observer] | None = None,
    stop: int | None = None,
    read: Callable[[Sequence[int], Float[Tensor, "row n"]], object],
) -> None:
    """Compute every edited run, and pass each chunk's readout to `read` with the indices of its runs.

    Args:
        base: the base run that they resume (`ResumableModel.base_run`).
        start: the first position that any of them can change; 0 where attention is not causal.
        tokens: the entries of the readout that are needed; None for all.
        chunk: rows × positions at a time (`CHUNK`).
        frozen: depth → z of the base run, for runs in which no attention is recomputed.
        observe: (depth, hook) → called with the activations there after the edits.
        stop: the depth before which to stop, without a readout; the depth below it ends as soon as all of its observers
            were called.
        read: takes indices of runs and their readout; not called when `stop` is given.
    """
    order = sorted(range(len(runs)), key=lambda i: (runs[i].depth, runs[i].input))
    size = max(1, (chunk or CHUNK) // max(1, _length(base) - start))
    starts = range(0, len(order), size)
    for at in (
        *starts[-1:],
        *starts[:-1],
    ):  # the last chunk has the fewest layers to compute: its results are soon there
        _run_chunk(resumable, base, runs, order[at : at + size], start, tokens, frozen, observe or {}, stop, read)


def _run_chunk(
    resumable: ResumableModel,
    base: BaseRun,
    runs: Sequence[EditedRun],
    order: Sequence[int],
    start: int,
    tokens: Tensor | None,
    frozen: Callable[[int], Tensor | None] | None,
    observe: Mapping[tuple[int, str], Observer],
    stop: int | None,
    read: Callable[[Sequence[int], Tensor], object],
) -> None:
    joining: dict[int, list[int]] = defaultdict(list)
    writes: dict[int, list[tuple[int, Write]]] = defaultdict(list)
    for i in order:
        joining[runs[i].depth].append(i)
        for write in runs[i].writes:
            writes[write.depth].append((i, write))
    stream: Stream = ()
    active: list[int] = []
    inputs, row_of = torch.empty(0, dtype=torch.long), {}
    end = resumable.n_layers * resumable.n_steps if stop is None else stop
    for depth in range(min(joining), end):
        if depth in joining:
            entering = resumable.stream_at(base, depth, torch.tensor([runs[i].input for i in joining[depth]]), start)
            active, stream = _joined(runs, active, stream, joining[depth], entering)
            inputs, row_of = torch.tensor([runs[i].input for i in active]), {i: row for row, i in enumerate(active)}
        row_writes = [(row_of[i], write) for i, write in writes[depth]]
        observed = {hook: observer for (at, hook), observer in observe.items() if at == depth}
        if observed and stop is not None and depth == end - 1:
            observed = _stop_after_all(observed)

        def taps(
            first: int, end: int | None = None, writes=row_writes, observed=observed, active=active
        ) -> dict[str, Tap]:
            return taps_for(writes, first, observed, active, end)

        z = frozen(depth) if frozen is not None else None
        expand = frozenset(w.expand for _, w in row_writes if w.expand)
        all_positions = bool(observed) or any(w.needs_all_positions for _, w in row_writes)
        with suppress(StopForward), naming_edits([runs[i] for i in active], resumable.n_layers):
            frozen_z = None if z is None else z[inputs, start:]
            stream = resumable.block(base, depth, inputs, start, stream, taps, frozen_z, expand, all_positions)
    if stop is None:
        read(active, resumable.readout(base, inputs, stream, tokens))


def _stop_after_all(observed: Mapping[str, Observer]) -> dict[str, Observer]:
    """The same observers; the last of them to be called stops the forward."""
    pending = set(observed)

    def stopping(hook: str, observer: Observer) -> Observer:
        def observe(indices: Sequence[int], first: int, x: Tensor) -> None:
            observer(indices, first, x)
            pending.discard(hook)
            if not pending:
                raise StopForward

        return observe

    return {hook: stopping(hook, observer) for hook, observer in observed.items()}


def _joined(
    runs: Sequence[EditedRun], active: Sequence[int], stream: Stream, joining: Sequence[int], entering: Stream
) -> tuple[list[int], Stream]:
    """Two batches, each sorted by input, as one: all rows of an input stay together, as they share its prefix."""
    if not active:
        return list(joining), entering
    order = sorted((*active, *joining), key=lambda i: runs[i].input)
    old, new = (Counter(runs[i].input for i in batch) for batch in (active, joining))
    sizes = [[count[k] for k in dict.fromkeys(runs[i].input for i in order)] for count in (old, new)]
    merged = tuple(
        torch.cat([part for pair in zip(a.split(sizes[0]), b.split(sizes[1]), strict=True) for part in pair])
        for a, b in zip(stream, entering, strict=True)
    )
    return order, merged


def full_forward_taps(
    resumable: ResumableModel, runs: Sequence[EditedRun], observed: Mapping[int, Mapping[str, Observer]] | None = None
) -> tuple[dict[int, dict[str, Tap]], dict[int, frozenset[str]]]:
    """Taps (step → hook → tap) that apply each run's writes in one full forward of a batch of those runs, and which
    layers' k and v are to be expanded; `observed` (step → hook → observer) sees the activations after the writes."""
    observed = observed or {}
    by_step: dict[int, list[tuple[int, Write]]] = {step: [] for step in observed}
    expand: dict[int, frozenset[str]] = {}
    for row, run in enumerate(runs):
        for write in run.writes:
            step, layer = divmod(write.depth, resumable.n_layers)
            by_step.setdefault(step, []).append((row, write))
            if write.expand:
                expand[layer] = expand.get(layer, frozenset()) | {write.expand}
    taps = {step: taps_for(writes, 0, observed.get(step)) for step, writes in by_step.items()}
    return taps, expand


def taps_for(
    writes: Sequence[tuple[int, Write]],
    first: int = 0,
    observed: Mapping[str, Observer] | None = None,
    active: Sequence[int] = (),
    end: int | None = None,
) -> dict[str, Tap]:
    """One tap a hook that applies every (row, write) to activations of the positions from `first` to before `end`;
    `active` are the rows' indices, for observers."""
    observed = observed or {}
    if end is not None:
        writes = [(row, ending(write, end)) for row, write in writes if (write.position or 0) < end]
    by_hook: dict[str, list[tuple[int, Write]]] = {hook: [] for hook in observed}
    for row, write in writes:
        by_hook.setdefault(write.hook, []).append((row, write))

    def tap_of(hook: str, hook_writes: Sequence[tuple[int, Write]]) -> Tap:
        if is_pattern(hook) and hook not in observed and all(write.head is not None for _, write in hook_writes):
            return _partial_tap(hook_writes, first)

        def tap(x: Tensor) -> Tensor | None:
            # z has just been computed for this run alone; any other tensor may be in use elsewhere.
            new = x if not hook_writes or hook.endswith("hook_z") else x.clone()
            if hook_writes:
                _apply(new, hook_writes, first)
            if hook in observed:
                observed[hook](active, first, new)
            return new if hook_writes else None

        return tap

    return {hook: tap_of(hook, hook_writes) for hook, hook_writes in by_hook.items()}


def ending(write: Write, end: int) -> Write:
    """The write before a position."""
    if write.position is not None or not isinstance(write.value, Tensor):
        return write
    return replace(write, value=write.value[: max(0, end - write.first)])


def _partial_tap(writes: Sequence[tuple[int, Write]], first: int) -> Tap:
    """Writes to some heads of a pattern, and to some rows where each has a position and a tensor: only these are
    computed explicitly."""
    writes = [(row, write) for row, write in writes if write.position is None or write.position >= first]
    if not writes:
        return lambda _: None
    heads = sorted({write.head for _, write in writes if write.head is not None})
    by_row = all(write.position is not None and isinstance(write.value, Tensor) for _, write in writes)
    rows = sorted({write.position for _, write in writes if write.position is not None}) if by_row else None

    def within(write: Write) -> Write:
        head = heads.index(write.head) if write.head is not None else None
        position = write.position if rows is None or write.position is None else rows.index(write.position)
        return replace(write, head=head, position=position)

    inside = [(row, within(write)) for row, write in writes]

    def tap(x: Tensor) -> Tensor:
        _apply(x, inside, first if rows is None else 0)
        return x

    return PartialTap(tap, tuple(heads), None if rows is None else tuple(rows))


def _apply(x: Tensor, writes: Sequence[tuple[int, Write]], first: int) -> None:
    """Write into ``x`` (``[row, pos, ...]``, or ``[row, head, dest, src]`` for patterns), in place and in order."""
    shapes = {(write.head is None, write.position is None) for _, write in writes}
    disjoint = len({(row, write.head, write.position) for row, write in writes}) == len(writes)
    independent = (disjoint and len(shapes) == 1) or len({row for row, _ in writes}) == len(writes)
    groups: dict[object, list[tuple[int, Write]]] = defaultdict(list)
    for at, (row, write) in enumerate(writes):
        if write.position is None or write.position >= first:
            together = independent and isinstance(write.value, Tensor)
            kind = (write.head is None, write.position is None, write.first, write.value.shape) if together else at
            groups[kind].append((row, write))
    for group in groups.values():
        _apply_group(x, group, first)


def _apply_group(x: Tensor, writes: Sequence[tuple[int, Write]], first: int) -> None:
    """Writes of one kind at different indices, in one assignment; a function's write alone."""
    write = writes[0][1]
    per_position = x.transpose(1, 2) if is_pattern(write.hook) else x  # [row, pos, (head), ...]
    index: list[Tensor | slice] = [torch.tensor([row for row, _ in writes])]
    if write.position is None:  # the values may begin later than the activation, or earlier
        index.append(slice(max(0, write.first - first), None))
    else:
        index.append(torch.tensor([w.position for _, w in writes]) - first)
    if write.head is not None:
        index.append(torch.tensor([w.head for _, w in writes]))
    old = per_position[tuple(index)]
    if callable(write.value):
        if not isinstance(write.value, EachPosition):
            new = write.value(old[0])
        elif write.position is None:
            new = write.value(old[0], max(first, write.first))
        else:
            new = write.value(old, write.position)[0]
        if not isinstance(new, Tensor) or new.shape != old[0].shape:
            returned = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
            raise HookError(
                f"The edit at {write.hook} gave {returned} for {tuple(old[0].shape)}. An edit must keep the shape."
            )
        new = new[None]
    else:
        new = torch.stack([w.value for _, w in writes if isinstance(w.value, Tensor)])
        new = new if write.position is not None else new[:, max(0, first - write.first) :]
        if new.shape != old.shape:
            raise HookError(
                f"The edit at {write.hook} has values of shape {tuple(new.shape[1:])} for an activation of "
                f"{tuple(old.shape[1:])}."
            )
    per_position[tuple(index)] = new.to(old)


def is_pattern(site: str) -> bool:
    """Whether activations there are ``[row, head, dest, src]``."""
    return site.endswith(("pattern", "hook_attn_scores"))


def _length(base: BaseRun) -> int:
    return base.length
