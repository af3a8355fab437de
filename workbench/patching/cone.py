"""The light cone: many edited runs in one climb.

An edit at stage L and position p can change only stages ≥ L and, in a causal model, positions ≥ p. So the edited runs
climb the tower together, those of several prompts too: a row joins the batch at the input of the stage of its first
edit, carrying only positions from `start` on; rows that joined earlier pass through. Every stage is called once for
each chunk of rows.

The matrix work of an exact sweep over all heads, with w weights a layer, H heads, L layers and P = T − start positions,
is ``2 w H P L (L + 1) / 2`` flop a prompt, against ``2 (w T L + vocabulary · d_model · T) H L`` for whole forwards.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from workbench.errors import HookError
from workbench.models.resumable import Base, Stream, Tap, Tower

#: Rows × positions of a full chunk: large enough for the matrix units, small enough for the processor's cache.
CHUNK = 2048


@dataclass(frozen=True)
class Write:
    """One row's edit at one site.

    Attributes:
        stage, hook: where.
        head: the head, or None for all (and for sites without heads).
        position: the position (for a pattern the destination), or None for all.
        value: what is written. With a position: its activation (``[d_head]``, ``[head, d_head]``, ``[d_model]``, or for
            a pattern ``[src]``). Without: one for each position, the first of them at `first`. Or a function of the
            activation that is there.
        first: the position of ``value[0]``.
    """

    stage: int
    hook: str
    value: Tensor | Callable[[Tensor], Tensor]
    head: int | None = None
    position: int | None = None
    first: int = 0
    expand: str = ""

    @property
    def needs_all_positions(self) -> bool:
        """Whether the value is a function that may look at several positions at once."""
        return self.position is None and callable(self.value) and self.value is not torch.zeros_like


@dataclass(frozen=True)
class Row:
    """One edited run: the input it edits, and its writes."""

    input: int
    writes: tuple[Write, ...]

    @property
    def stage(self) -> int:
        """Where it leaves the base run."""
        return min(write.stage for write in self.writes)


class _Enough(Exception):
    """Raised by the last watcher of a climb that is not read out, to leave its last stage."""


#: Called with the rows (indices into the list given to `climb`), the first position, and their activation.
Watch = Callable[[Sequence[int], int, Tensor], None]


@torch.no_grad()
def climb(
    tower: Tower,
    base: Base,
    rows: Sequence[Row],
    start: int,
    *,
    tokens: Int[Tensor, "n"] | None = None,
    chunk: int | None = None,
    frozen: Callable[[int], Shaped[Tensor, "input pos head d_head"] | None] | None = None,
    watch: Mapping[tuple[int, str], Watch] | None = None,
    stop: int | None = None,
    read: Callable[[Sequence[int], Float[Tensor, "row n"]], object],
) -> None:
    """Run every row through the tower, and give each chunk's readout to `read` with the rows it belongs to.

    Args:
        base: the base run that the rows leave (`Tower.base_run`).
        start: the first position that any row can change; 0 where attention is not causal.
        tokens: the entries of the readout that are needed; None for all.
        chunk: rows × positions at a time (`CHUNK`).
        frozen: stage → z of the base run, for runs in which no attention is recomputed.
        watch: (stage, hook) → called with the activations there after the edits.
        stop: the stage at which to leave, before reading out; the stage below it is left as soon as all of its
            watchers were called.
        read: takes row indices and their readout; not called when `stop` is given.
    """
    order = sorted(range(len(rows)), key=lambda i: (rows[i].stage, rows[i].input))
    size = max(1, (chunk or CHUNK) // max(1, _length(base) - start))
    for at in range(0, len(order), size):
        _climb_chunk(tower, base, rows, order[at : at + size], start, tokens, frozen, watch or {}, stop, read)


def _climb_chunk(
    tower: Tower,
    base: Base,
    rows: Sequence[Row],
    order: Sequence[int],
    start: int,
    tokens: Tensor | None,
    frozen: Callable[[int], Tensor | None] | None,
    watch: Mapping[tuple[int, str], Watch],
    stop: int | None,
    read: Callable[[Sequence[int], Tensor], object],
) -> None:
    joining: dict[int, list[int]] = defaultdict(list)
    writes: dict[int, list[tuple[int, Write]]] = defaultdict(list)
    for i in order:
        joining[rows[i].stage].append(i)
        for write in rows[i].writes:
            writes[write.stage].append((i, write))
    stream: Stream = ()
    active: list[int] = []
    inputs, place = torch.empty(0, dtype=torch.long), {}
    end = tower.n_layers * tower.n_steps if stop is None else stop
    for stage in range(min(joining), end):
        if stage in joining:
            entering = tower.enter(base, stage, torch.tensor([rows[i].input for i in joining[stage]]), start)
            active, stream = _joined(rows, active, stream, joining[stage], entering)
            inputs, place = torch.tensor([rows[i].input for i in active]), {i: r for r, i in enumerate(active)}
        here = [(place[i], write) for i, write in writes[stage]]
        watched = {hook: watcher for (at, hook), watcher in watch.items() if at == stage}
        if watched and stop is not None and stage == end - 1:
            watched = _leaving(watched)

        def taps(first: int, here=here, watched=watched, active=active) -> dict[str, Tap]:
            return taps_for(here, first, watched, active)

        z = frozen(stage) if frozen is not None else None
        expand = frozenset(w.expand for _, w in here if w.expand)
        every = bool(watched) or any(w.needs_all_positions for _, w in here)
        with suppress(_Enough):
            stream = tower.block(
                base, stage, inputs, start, stream, taps, None if z is None else z[inputs, start:], expand, every
            )
    if stop is None:
        read(active, tower.readout(base, inputs, stream, tokens))


def _leaving(watched: Mapping[str, Watch]) -> dict[str, Watch]:
    """The same watchers; the last of them to be called ends the stage."""
    silent = set(watched)

    def leaving(hook: str, watcher: Watch) -> Watch:
        def watch(rows: Sequence[int], first: int, x: Tensor) -> None:
            watcher(rows, first, x)
            silent.discard(hook)
            if not silent:
                raise _Enough

        return watch

    return {hook: leaving(hook, watcher) for hook, watcher in watched.items()}


def _joined(
    rows: Sequence[Row], active: Sequence[int], stream: Stream, joining: Sequence[int], entering: Stream
) -> tuple[list[int], Stream]:
    """Two batches, each sorted by input, as one: all rows of an input stay together, as they share its prefix."""
    if not active:
        return list(joining), entering
    both = sorted((*active, *joining), key=lambda i: rows[i].input)
    old, new = (Counter(rows[i].input for i in batch) for batch in (active, joining))
    sizes = [[count[k] for k in dict.fromkeys(rows[i].input for i in both)] for count in (old, new)]
    merged = tuple(
        torch.cat([part for pair in zip(a.split(sizes[0]), b.split(sizes[1]), strict=True) for part in pair])
        for a, b in zip(stream, entering, strict=True)
    )
    return both, merged


def whole_taps(
    tower: Tower, rows: Sequence[Row], watched: Mapping[str, Watch] | None = None
) -> tuple[dict[int, dict[str, Tap]], dict[int, frozenset[str]]]:
    """Taps (step → hook → tap) that apply each row's writes in one complete forward of a batch of those rows, and which
    layers' k and v are to be expanded; in the first step, `watched` sees what is there after the writes."""
    by_step: dict[int, list[tuple[int, Write]]] = {0: []} if watched else {}
    expand: dict[int, frozenset[str]] = {}
    for r, row in enumerate(rows):
        for write in row.writes:
            step, layer = divmod(write.stage, tower.n_layers)
            by_step.setdefault(step, []).append((r, write))
            if write.expand:
                expand[layer] = expand.get(layer, frozenset()) | {write.expand}
    taps = {step: taps_for(writes, 0, watched if step == 0 else None) for step, writes in by_step.items()}
    return taps, expand


def taps_for(
    writes: Sequence[tuple[int, Write]],
    first: int = 0,
    watched: Mapping[str, Watch] | None = None,
    rows: Sequence[int] = (),
) -> dict[str, Tap]:
    """One tap a hook that applies every (row, write) to activations whose first position is `first`."""
    watched = watched or {}
    by_hook: dict[str, list[tuple[int, Write]]] = {hook: [] for hook in watched}
    for row, write in writes:
        by_hook.setdefault(write.hook, []).append((row, write))

    def tap_of(hook: str, mine: Sequence[tuple[int, Write]]) -> Tap:
        def tap(x: Tensor) -> Tensor | None:
            # z has just been computed for this run alone; everything else may be somebody's.
            new = x if not mine or hook.endswith("hook_z") else x.clone()
            _apply(new, mine, first)
            if hook in watched:
                watched[hook](rows, first, new)
            return new if mine else None

        return tap

    return {hook: tap_of(hook, mine) for hook, mine in by_hook.items()}


def _apply(x: Tensor, writes: Sequence[tuple[int, Write]], first: int) -> None:
    """Write into ``x`` (``[row, pos, ...]``, or ``[row, head, dest, src]`` for patterns), in place and in order."""
    shapes = {(write.head is None, write.position is None) for _, write in writes}
    apart = len({(row, write.head, write.position) for row, write in writes}) == len(writes)
    once = (apart and len(shapes) == 1) or len({row for row, _ in writes}) == len(writes)
    alike: dict[object, list[tuple[int, Write]]] = defaultdict(list)
    for at, (row, write) in enumerate(writes):
        if write.position is None or write.position >= first:
            together = once and isinstance(write.value, Tensor)
            kind = (write.head is None, write.position is None, write.first, write.value.shape) if together else at
            alike[kind].append((row, write))
    for same in alike.values():
        _apply_alike(x, same, first)


def _apply_alike(x: Tensor, writes: Sequence[tuple[int, Write]], first: int) -> None:
    """Writes of one kind, each into a place of its own, in one go; a function's alone."""
    write = writes[0][1]
    per_position = x.transpose(1, 2) if is_pattern(write.hook) else x  # [row, pos, (head), ...]
    index: list[Tensor | slice] = [torch.tensor([row for row, _ in writes])]
    if write.position is None:  # the values may begin later than the activation, or earlier
        index.append(slice(max(0, write.first - first), None))
    else:
        index.append(torch.tensor([w.position for _, w in writes]) - first)
    if write.head is not None:
        index.append(torch.tensor([w.head for _, w in writes]))
    there = per_position[tuple(index)]
    if callable(write.value):
        new = write.value(there[0])
        if not isinstance(new, Tensor) or new.shape != there[0].shape:
            given = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
            raise HookError(
                f"The edit at {write.hook} gave {given} for {tuple(there[0].shape)}: an edit keeps the shape."
            )
        new = new[None]
    else:
        new = torch.stack([w.value for _, w in writes if isinstance(w.value, Tensor)])
        new = new if write.position is not None else new[:, max(0, first - write.first) :]
        if new.shape != there.shape:
            raise HookError(
                f"The edit at {write.hook} has values of shape {tuple(new.shape[1:])} for an activation of "
                f"{tuple(there.shape[1:])}."
            )
    per_position[tuple(index)] = new.to(there)


def is_pattern(site: str) -> bool:
    """Whether activations there are ``[row, head, dest, src]``."""
    return site.endswith(("pattern", "hook_attn_scores"))


def _length(base: Base) -> int:
    return base.length
