"""Linear attention: a feature map in place of the softmax, so that all earlier positions fit into one matrix.

``z_i = φ(q_i)ᵀ S_i / φ(q_i)·n_i`` with ``S_i = Σ_j φ(k_j) v_jᵀ`` and ``n_i = Σ_j φ(k_j)`` over what a position sees:
earlier ones and itself, or all where attention is not causal. φ is ``elu(x) + 1`` or ``relu(x)``, of q and k as they
come, unscaled. A query whose denominator is 0 (with relu, one without a positive feature in common with a key) has
z = 0 and a row of zeros. Without the denominator (`normalised`) rows do not sum to one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.attention import gpu_kernels
from workbench.attention.call import Call
from workbench.attention.layer import State
from workbench.attention.operator import Operator
from workbench.attention.primitives import recurrence
from workbench.attention.primitives.visible import causal, without_padding
from workbench.attention.settings import Setting


def phi(x: Tensor, call: Call) -> Tensor:
    """The features, which are not negative."""
    return F.relu(x) if call["feature"] == "relu" else F.elu(x) + 1


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``φ(q_i)·φ(k_j)``, divided by its sum over the row."""
    kind = recurrence.exact(q)
    weights = phi(q.to(kind), call) @ without_padding(phi(k.to(kind), call), call).mT
    if call.causal:
        weights = weights * causal(q.shape[2], k.shape[2], q.device)
    if call["normalised"]:
        total = weights.sum(-1, keepdim=True)
        weights = weights / total.masked_fill(total == 0, torch.inf)
    return weights.to(q.dtype)


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """In chunks; where attention is not causal, two products."""
    return _read(q, k, v, None, call, call["normalised"])


def kernel(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """The sums with v by flash-linear-attention, from features in the precision of v; the denominator in float32. (Its
    own has 10⁻¹⁰ added.)"""
    kind = recurrence.exact(q)
    queries = phi(q.to(kind), call).to(v.dtype)
    keys = without_padding(phi(k.to(kind), call), call).to(v.dtype)
    sums = gpu_kernels.decayed_linear(queries, keys, v)
    if not call["normalised"]:
        return sums
    total = (queries.to(kind) * keys.to(kind).cumsum(2)).sum(-1, keepdim=True)
    return recurrence.average(torch.cat([sums.to(kind), total], -1)).to(v.dtype)


def advance(k: Tensor, v: Tensor, call: Call, state: State | None) -> State:
    """``(S, n)``."""
    features = without_padding(phi(k.to(recurrence.exact(k)), call), call)
    sums, total = recurrence.advance(features, v), features.sum(2)
    return (sums, total) if state is None else (state[0] + sums, state[1] + total)


def resume(q: Tensor, k: Tensor, v: Tensor, state: State, call: Call) -> Tensor:
    """From the state before."""
    before = torch.cat([state[0], state[1][..., None]], -1) if call["normalised"] else state[0]
    return _read(q, k, v, before, call, call["normalised"])


def _read(q: Tensor, k: Tensor, v: Tensor, state: Tensor | None, call: Call, averaged: bool) -> Tensor:
    def features(queries: Tensor, keys: Tensor, piece: slice) -> tuple[Tensor, Tensor]:
        kind, part = recurrence.exact(queries), call.positions(piece.start, piece.stop)
        return phi(queries.to(kind), call), without_padding(phi(keys.to(kind), call), part)

    if call.causal:
        return recurrence.chunked(q, k, v, state=state, features=features, averaged=averaged)
    queries, keys = features(q, k, slice(0, k.shape[2]))
    state = recurrence.advance(keys, F.pad(v, (0, 1), value=1.0) if averaged else v, state=state)
    sums = recurrence.times_state(queries, state)
    return (recurrence.average(sums) if averaged else sums).to(v.dtype)


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """The state after the last position, ``[batch, head, d_head, d_value]``, the normaliser n, ``[batch, head,
    d_head]``, each query's denominator, ``[batch, head, dest]``, and the share of queries where it is 0."""
    state, normaliser = advance(k, v, call, None)
    earlier = k.shape[2] - q.shape[2]
    start = advance(k[:, :, :earlier], v[:, :, :earlier], call.positions(0, earlier), None)[1][..., None]
    ones, rows = v.new_ones(1).expand(*k.shape[:2], q.shape[2], 1), call.positions(earlier)
    total = _read(q, k[:, :, earlier:], ones, start, rows, False)[..., 0]
    return {"state": state, "normaliser": normaliser, "denominator": total, "dead": recurrence.share(total == 0, rows)}


operator = Operator(
    name="linear",
    version=1,
    source="Katharopoulos et al. 2020, arXiv 2006.16236; relu: Xie et al. 2024 (SANA), arXiv 2410.10629",
    status="as published",
    settings={
        "feature": Setting("elu", "word", "φ: elu(x) + 1, or relu(x)", choices=("elu", "relu")),
        "normalised": Setting(True, "flag", "divide by the sum of the weights"),
    },
    row_stochastic=lambda settings: settings["normalised"] and settings["feature"] == "elu",
    resumes="state",
    form="linear",
    records=("state", "normaliser", "denominator", "dead"),
    matrix=matrix,
    efficient=efficient,
    kernel=gpu_kernels.Kernel("fla", kernel, fits=lambda q, k, call: call.causal),
    advance=advance,
    resume=resume,
    record=record,
    check_length=lambda _: recurrence.CHUNK + 8,
)
