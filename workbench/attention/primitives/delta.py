"""The delta rule: a state that is corrected towards v where k points, ``S ← λ S + β k (v − λ Sᵀ k)ᵀ``, ``z = Sᵀ q``.

In chunks, with ``c`` the sum of ``log λ`` from the chunk's first position on, ``D_ab = exp(c_a − c_b)`` for b ≤ a, and
S the state before the chunk::

    U  = (I + strictlower(β K Kᵀ ⊙ D))⁻¹ β (V − exp(c) K S)       what is written
    Z  = exp(c) Q S + (Q Kᵀ ⊙ D) U
    S' = exp(c_m) S + (exp(c_m − c) K)ᵀ U

one triangular solve a chunk (Yang et al. 2024, arXiv 2406.06484 and 2412.06464). Over the whole length, from no state,
``Z = A V`` with ``A = (Q Kᵀ ⊙ D) (I + strictlower(β K Kᵀ ⊙ D))⁻¹ diag(β)``.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.attention.primitives.recurrence import CHUNK, Features, exact, spans, times_state


def normalised(x: Float[Tensor, "*rest d"]) -> Float[Tensor, "*rest d"]:
    """``x / √(Σ x² + 10⁻⁶)``, as flash-linear-attention and transformers do; 0 stays 0."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def matrix(
    q: Float[Tensor, "batch head dest d_key"],
    k: Float[Tensor, "batch head src d_key"],
    beta: Float[Tensor, "gate_batch gate_head src"],
    log_decay: Float[Tensor, "gate_batch gate_head src"] | None = None,
) -> Float[Tensor, "batch head dest src"]:
    """A of the last `dest` of `src` positions."""
    kind, dest = exact(k), q.shape[2]
    k, beta = k.to(kind), beta.to(kind).expand(k.shape[:3])
    read, system = q.to(kind) @ k.mT, (k * beta[..., None]) @ k.mT
    if log_decay is not None:
        between = _between(log_decay.to(kind).cumsum(-1))
        read, system = read * between[..., -dest:, :], system * between
    visible = torch.ones_like(read[0, 0], dtype=torch.bool).tril(k.shape[2] - dest)
    written = torch.linalg.solve_triangular(system, torch.diag_embed(beta), upper=False, unitriangular=True)
    return (read.masked_fill(~visible, 0) @ written).to(q.dtype)


def chunked(
    q: Float[Tensor, "batch head pos d_key"],
    k: Float[Tensor, "batch head pos d_key"],
    v: Float[Tensor, "batch head pos d_value"],
    beta: Float[Tensor, "gate_batch gate_head pos"],
    log_decay: Float[Tensor, "gate_batch gate_head pos"] | None = None,
    state: Float[Tensor, "batch_or_1 head d_key d_value"] | None = None,
    *,
    features: Features | None = None,
    chunk: int = CHUNK,
) -> Float[Tensor, "batch head pos d_value"]:
    """z of all positions, from a state of the positions before, where there is one; `features` as in
    `recurrence.chunked`."""
    parts = []
    for at in spans(k.shape[2], chunk):
        queries, keys = q[:, :, at], k[:, :, at]
        queries, keys = (queries, keys) if features is None else features(queries, keys, at)
        piece = _Piece(keys, v[:, :, at], beta[..., at], None if log_decay is None else log_decay[..., at])
        written = piece.written(state)
        parts.append(piece.read(queries, written, state).to(v.dtype))
        if at.stop < k.shape[2]:
            state = piece.after(written, state)
    return torch.cat(parts, 2)


def advance(
    k: Float[Tensor, "batch head src d_key"],
    v: Float[Tensor, "batch head src d_value"],
    beta: Float[Tensor, "gate_batch gate_head src"],
    log_decay: Float[Tensor, "gate_batch gate_head src"] | None = None,
    state: Float[Tensor, "batch_or_1 head d_key d_value"] | None = None,
    *,
    chunk: int = CHUNK,
) -> Float[Tensor, "batch head d_key d_value"]:
    """The state after these positions."""
    for at in spans(k.shape[2], chunk):
        piece = _Piece(k[:, :, at], v[:, :, at], beta[..., at], None if log_decay is None else log_decay[..., at])
        state = piece.after(piece.written(state), state)
    return k.new_zeros(*k.shape[:2], k.shape[3], v.shape[3], dtype=exact(k)) if state is None else state


def _between(cumulative: Tensor) -> Tensor:
    """``exp(c_a − c_b)`` for b ≤ a, and 0."""
    gap = cumulative[..., :, None] - cumulative[..., None, :]
    later = torch.ones_like(gap, dtype=torch.bool).triu(1)
    return gap.masked_fill(later, -torch.inf).exp()


class _Piece:
    """A chunk."""

    def __init__(self, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None) -> None:
        kind = exact(k)
        self.k, self.v, self.beta = k.to(kind), v.to(kind), beta.to(kind)[..., None]
        self.cumulative = None if log_decay is None else log_decay.to(kind).cumsum(-1)
        self.between = None if self.cumulative is None else _between(self.cumulative)
        self.entering = None if self.cumulative is None else self.cumulative.exp()[..., None]

    def written(self, state: Tensor | None) -> Tensor:
        """U."""
        system = (self.k * self.beta) @ self.k.mT
        values = self.v
        if self.between is not None:
            system = system * self.between
        if state is not None:
            values = values - times_state(self._entering(self.k), state)
        return torch.linalg.solve_triangular(system, values * self.beta, upper=False, unitriangular=True)

    def read(self, q: Tensor, written: Tensor, state: Tensor | None) -> Tensor:
        """Z."""
        q = q.to(self.k.dtype)
        weights = q @ self.k.mT
        weights = weights.tril() if self.between is None else weights * self.between
        z = weights @ written
        return z if state is None else z + times_state(self._entering(q), state)

    def after(self, written: Tensor, state: Tensor | None) -> Tensor:
        """S'."""
        if self.cumulative is None:
            new = self.k.mT @ written
            return new if state is None else state + new
        last = self.cumulative[..., -1:]
        new = (self.k * (last - self.cumulative).exp()[..., None]).mT @ written
        return new if state is None else state * last.exp()[..., None] + new

    def _entering(self, x: Tensor) -> Tensor:
        return x if self.entering is None else x * self.entering
