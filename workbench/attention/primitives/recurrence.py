"""Linear recurrences in chunks: ``S ← λ S + k vᵀ``, ``z = Sᵀ q``, for sums over all earlier positions without a matrix.

With local positions a, b = 0 … m − 1 of a chunk and S the state before it::

    z_a = λ^(a+1) Sᵀ q_a + Σ_{b ≤ a} λ^(a−b) (q_a · k_b) v_b
    S'  = λ^m S + Σ_b λ^(m−1−b) k_b v_bᵀ

Exact for any chunk; the last one may be shorter, and is then not padded: padding would decay the state once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from workbench.attention.call import Call

#: Positions of a chunk.
CHUNK = 64

#: ``features(q, k, piece) -> (features of q, features of k)``.
Features = Callable[[Tensor, Tensor, slice], tuple[Tensor, Tensor]]


def times_state(
    q: Float[Tensor, "batch head dest d_key"], state: Float[Tensor, "batch_or_1 head d_key d_value"]
) -> Float[Tensor, "batch head dest d_value"]:
    """``q S`` without a copy of a shared state for every row."""
    if state.shape[0] == q.shape[0]:
        return q @ state
    rows = q.transpose(0, 1).flatten(1, 2) @ state[0]
    return rows.unflatten(1, (q.shape[0], q.shape[2])).transpose(0, 1)


def decays(slopes: Float[Tensor, "head"], count: int) -> Float[Tensor, "head count"]:
    """``exp(−slope · n)`` for n = 0 … count − 1."""
    return torch.exp(-slopes[:, None] * torch.arange(count, device=slopes.device, dtype=slopes.dtype))


def spans(length: int, size: int, first: int = 0) -> Iterator[slice]:
    """Pieces of at most `size` positions that end at multiples of it, where the first position is `first`."""
    start = 0
    while start < length:
        stop = min(length, start + size - (first + start) % size)
        yield slice(start, stop)
        start = stop


def exact(x: Tensor) -> torch.dtype:
    """The type that sums are made in: float32 at least."""
    return torch.promote_types(x.dtype, torch.float32)


def average(sums: Float[Tensor, "*rest d_value_and_one"]) -> Float[Tensor, "*rest d_value"]:
    """Sums with v, divided by the last column, the same sums with 1; where that is 0, so is the result."""
    total = sums[..., -1:]
    return sums[..., :-1] / total.masked_fill(total == 0, torch.inf)


def share(rows: Bool[Tensor, "batch head dest"], call: Call) -> Float[Tensor, "batch head"]:
    """The share of rows, padding left out; 0 where there is nothing else."""
    real = torch.ones_like(rows) if call.padding is None else call.padding[:, None, -rows.shape[2] :].expand_as(rows)
    return (rows & real).sum(-1) / real.sum(-1).clamp(min=1)


def advance(
    k: Float[Tensor, "batch head src d_key"],
    v: Float[Tensor, "batch head src d_value"],
    slopes: Float[Tensor, "head"] | None = None,
    state: Float[Tensor, "batch_or_1 head d_key d_value"] | None = None,
) -> Float[Tensor, "batch head d_key d_value"]:
    """The state after these positions; ``λ = exp(−slope)``, 1 without slopes."""
    length, kind = k.shape[2], exact(k)
    k, v = k.to(kind), v.to(kind)
    if slopes is not None:
        decay = decays(slopes, length + 1).to(kind)
        k = k * decay[:, :length].flip(1)[..., None]
    new = k.mT @ v
    if state is None:
        return new
    return new + (state if slopes is None else state * decay[:, length, None, None])


def chunked(
    q: Float[Tensor, "batch head pos d_key"],
    k: Float[Tensor, "batch head pos d_key"],
    v: Float[Tensor, "batch head pos d_value"],
    slopes: Float[Tensor, "head"] | None = None,
    state: Float[Tensor, "batch_or_1 head d_key d_state"] | None = None,
    *,
    features: Features | None = None,
    averaged: bool = False,
    block: int = 1,
    first: int = 0,
    chunk: int = CHUNK,
) -> Float[Tensor, "batch head pos d_value"]:
    """z of all positions.

    Args:
        state: of the positions before, where there are some; `d_state` is `d_value`, and one more where z is averaged.
        features: of the queries and keys of a piece, ``features(q, k, piece)``; computed a chunk at a time, they stay
            in the processor's cache.
        averaged: divide by the same sums with 1 in place of v (`average`).
        block: positions see their whole block of so many, and all earlier ones; without slopes.
        first: the position of the first of them, from which blocks are counted.
    """
    size = block if block >= chunk else -(-chunk // block) * block
    size = size if block > 1 else min(size, q.shape[2])
    kind, device, parts = exact(q), q.device, []
    if size > block or block == 1:
        place = torch.arange(size, device=device)
        within = (place[:, None] // block >= place // block).to(kind)
    if slopes is not None:
        decay = decays(slopes, size + 1).to(kind)
        within = within * decay[:, (place[:, None] - place).clamp(min=0)]
        entering, leaving, whole = decay[:, 1:, None], decay[:, :size].flip(1)[..., None], decay[:, size:, None]
    for piece in spans(q.shape[2], size, first):
        queries, keys, values = q[:, :, piece], k[:, :, piece], v[:, :, piece].to(kind)
        queries, keys = (queries, keys) if features is None else features(queries, keys, piece)
        queries, keys = queries.to(kind), keys.to(kind)
        if averaged:
            values = F.pad(values, (0, 1), value=1.0)
        if size == block > 1:  # all see the state behind their block
            state = advance(keys, values, None, state)
            z = times_state(queries, state)
        else:
            rows = slice((first + piece.start) % size, (first + piece.start) % size + queries.shape[2])
            z = ((queries @ keys.mT) * within[..., rows, rows]) @ values
            if state is not None:
                z = z + times_state(queries if slopes is None else queries * entering[:, : queries.shape[2]], state)
            if piece.stop < q.shape[2]:
                if slopes is not None:
                    keys = keys * leaving
                    state = None if state is None else state * whole
                state = keys.mT @ values if state is None else state + keys.mT @ values
        parts.append((average(z) if averaged else z).to(v.dtype))
    return torch.cat(parts, 2)
