"""Query-free: how much a source counts depends on the source alone, so every row is a share of one vector of weights.

``A[i, j] = exp(l_j) / Σ_{j' ≤ i} exp(l_j')`` with ``l_j = Σ silu(q_j) · k_j / √d``, of the layer's own projections
before any rotation. It needs two running sums, which are kept relative to the largest logit so far.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.attention.call import Call
from workbench.attention.layer import LayerShape, OperatorModule, Project, Settings, State
from workbench.attention.operator import Operator
from workbench.attention.primitives import needed, softmax_forms
from workbench.attention.primitives.visible import visible

CHUNK = 64


class Logits(OperatorModule):
    """No parameters: the logits of the layer's own queries and keys."""

    def gates(self, x: Tensor, project: Project) -> dict[str, Tensor]:
        """``logit [batch, pos, head]``."""
        q, k = project("query", x), project("key", x)
        return {"logit": (F.silu(q) * k).sum(-1) * q.shape[-1] ** -0.5}


def module(shape: LayerShape, settings: Settings) -> OperatorModule:
    """Without parameters."""
    return Logits()


def logits(call: Call, like: Tensor) -> Tensor:
    """``[batch_or_1, head_or_1, src]``, −∞ at padding."""
    gate = needed.gate(call, "query-free", "logit", "the logit of each position [batch, src, head]").transpose(1, 2)
    gate = gate.to(torch.promote_types(like.dtype, torch.float32))
    return gate if call.padding is None else gate.masked_fill(~call.padding[:, None], -torch.inf)


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[batch, head, dest, src]``."""
    scores = logits(call, q)[:, :, None].expand(q.shape[0], q.shape[1], q.shape[2], -1)
    return softmax_forms.softmax(scores, visible(call, q.shape[2], k.shape[2], q.device)).to(q.dtype)


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """In chunks."""
    return _run(v, call, None)


def advance(k: Tensor, v: Tensor, call: Call, state: State | None) -> State:
    """The largest logit and, relative to it, the sums of ``exp(l)``, ``[batch, head]``, and of ``exp(l) v``."""
    values = v.to(torch.promote_types(v.dtype, torch.float32))
    return _joined(state, logits(call, v).expand(v.shape[0], v.shape[1], -1), values)


def resume(q: Tensor, k: Tensor, v: Tensor, state: State, call: Call) -> Tensor:
    """From the state before."""
    return _run(v, call, state)


def _run(v: Tensor, call: Call, state: State | None) -> Tensor:
    values = v.to(torch.promote_types(v.dtype, torch.float32))
    logit = logits(call, v).expand(v.shape[0], v.shape[1], -1)
    if not call.causal:
        _, weight, total = _joined(state, logit, values)
        return _mean(total, weight)[:, :, None].expand(*v.shape).to(v.dtype)
    parts = []
    for start in range(0, v.shape[2], CHUNK):
        piece, mixed = logit[:, :, start : start + CHUNK], values[:, :, start : start + CHUNK]
        size = piece.shape[2]
        scores = piece[:, :, None].expand(-1, -1, size, -1)
        scores = scores.masked_fill(~torch.ones(size, size, dtype=torch.bool, device=v.device).tril(), -torch.inf)
        largest = piece.detach().cummax(2).values
        if state is not None:
            largest = torch.maximum(largest, state[0][:, :, None])
        largest = _finite(largest)
        weights = torch.exp(scores - largest[..., None])
        total, weight = weights @ mixed, weights.sum(-1)
        if state is not None:
            earlier = torch.exp(state[0][:, :, None] - largest)
            total = total + earlier[..., None] * state[2][:, :, None]
            weight = weight + earlier * state[1][:, :, None]
        parts.append(_mean(total, weight))
        if start + CHUNK < v.shape[2]:
            state = _joined(state, piece, mixed)
    return torch.cat(parts, 2).to(v.dtype)


def _joined(state: State | None, logit: Tensor, values: Tensor) -> State:
    """The state after these positions. The shift by the largest logit cancels, so it has no gradient."""
    largest = logit.detach().amax(2)
    if state is not None:
        largest = torch.maximum(largest, state[0])
    weights = torch.exp(logit - _finite(largest)[..., None])
    weight, total = weights.sum(2), (weights[:, :, None] @ values)[:, :, 0]
    if state is not None:
        earlier = torch.exp(state[0] - _finite(largest))
        weight, total = weight + earlier * state[1], total + earlier[..., None] * state[2]
    return largest, weight, total


def _finite(largest: Tensor) -> Tensor:
    """Where all so far is padding, any number does."""
    return largest.masked_fill(largest == -torch.inf, 0)


def _mean(total: Tensor, weight: Tensor) -> Tensor:
    """0 where nothing is seen."""
    return total / weight.masked_fill(weight == 0, 1)[..., None]


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """The logits, ``[batch, src, head]``."""
    return {"logit": needed.gate(call, "query-free", "logit", "the logit of each position [batch, src, head]")}


operator = Operator(
    name="query-free",
    version=1,
    source="Xue, Moosavi and Aletras 2025, arXiv 2510.11602 (Non-approximate)",
    status="as published",
    choices=("in a layer with rotary positions: queries and keys before the rotation",),
    needs=("gates",),
    ignores=("q", "k"),
    resumes="state",
    form="query-free",
    records=("logit",),
    matrix=matrix,
    efficient=efficient,
    advance=advance,
    resume=resume,
    record=record,
    module=module,
    check_length=lambda _: CHUNK + 8,
)
