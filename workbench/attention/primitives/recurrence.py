"""Linear recurrences in chunks: ``S ← λ S + k vᵀ``, ``z = Sᵀ q``, for sums over all earlier positions without a matrix.

With local positions a, b = 0 … m − 1 of a chunk and S the state before it::

    z_a = λ^(a+1) Sᵀ q_a + Σ_{b ≤ a} λ^(a−b) (q_a · k_b) v_b
    S'  = λ^m S + Σ_b λ^(m−1−b) k_b v_bᵀ

Exact for any chunk; the last one may be shorter, and is then not padded: padding would decay the state once more.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

#: Positions of a chunk.
CHUNK = 64


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


def advance(
    k: Float[Tensor, "batch head src d_key"],
    v: Float[Tensor, "batch head src d_value"],
    slopes: Float[Tensor, "head"] | None = None,
    state: Float[Tensor, "batch_or_1 head d_key d_value"] | None = None,
) -> Float[Tensor, "batch head d_key d_value"]:
    """The state after these positions; ``λ = exp(−slope)``, 1 without slopes."""
    length = k.shape[2]
    if slopes is not None:
        decay = decays(slopes.to(k.dtype), length + 1)
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
    state: Float[Tensor, "batch_or_1 head d_key d_value"] | None = None,
    chunk: int = CHUNK,
) -> Float[Tensor, "batch head pos d_value"]:
    """z of all positions, from a state of the positions before, where there is one."""
    length = q.shape[2]
    size = min(chunk, length)
    decay = None if slopes is None else decays(slopes.to(q.dtype), size + 1)
    within = torch.ones(size, size, device=q.device, dtype=q.dtype).tril()
    if decay is not None:
        gap = torch.arange(size, device=q.device)
        within = within * decay[:, (gap[:, None] - gap).clamp(min=0)]
    parts = []
    for at in range(0, length, size):
        queries, keys, values = (x[:, :, at : at + size] for x in (q, k, v))
        m = queries.shape[2]
        z = ((queries @ keys.mT) * within[..., :m, :m]) @ values
        if state is not None:
            decayed = queries if decay is None else queries * decay[:, 1 : m + 1, None]
            z = z + times_state(decayed, state)
        parts.append(z)
        if at + size < length:
            state = advance(keys, values, slopes, state)
    return torch.cat(parts, 2)
