"""Second order: softmax whose exponential is its Taylor polynomial, so that a state of fixed size can carry it.

``A[i, j] = w_ij / Σ_j w_ij`` with ``w = 1 + x + x² / 2`` and ``x = q_i · k_j / √d``; w is never below 1/2. As printed
(``form="printed"``) the three orders are normalised by themselves and added: ``A = Σ_o x^o / Σ_j x^o`` for o = 0, 1,
2, whose rows sum to three, and whose first-order denominator may come close to 0.

A long run carries sums over earlier positions of the 1 + d + d (d + 1) / 2 products of the entries of k, in chunks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.operator import Operator
from workbench.attention.primitives.visible import visible, without_padding
from workbench.attention.settings import Setting

#: Positions of a chunk.
CHUNK = 128


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[batch, head, dest, src]``."""
    wide = torch.promote_types(q.dtype, torch.float32)
    seen = visible(call, q.shape[2], k.shape[2], q.device)
    orders = [order * seen for order in _orders((q.to(wide) * call.scale) @ k.to(wide).mT)]
    sums = [order.sum(-1, keepdim=True) for order in orders]
    return _ratio(orders, sums, sums[0] == 0, call).to(q.dtype)


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """In chunks with a state where there are more positions than products; else by the matrix."""
    dest, src, d = q.shape[2], k.shape[2], q.shape[3]
    if dest != src or src <= 1 + d + d * (d + 1) // 2:
        return matrix(q, k, call) @ v
    wide = torch.promote_types(q.dtype, torch.float32)
    ones = torch.ones_like(v[..., :1])  # adds up the weights
    values = without_padding(torch.cat([v, ones], -1).to(wide), call)
    chunks = list(zip(*(x.split(CHUNK, 2) for x in (q.to(wide) * call.scale, k.to(wide), values)), strict=True))
    state = [torch.zeros((), dtype=wide, device=q.device)] * 3
    if not call.causal:
        for _, keys, chunk_values in chunks:
            state = _advanced(state, keys, chunk_values)
    parts = []
    for number, (queries, keys, chunk_values) in enumerate(chunks):
        mixed = [torch.zeros_like(chunk_values)] * 3
        if call.causal:
            mixed = [order.tril() @ chunk_values for order in _orders(queries @ keys.mT)]
        if number or not call.causal:
            mixed = [x + feature @ old for x, feature, old in zip(mixed, features(queries), state, strict=True)]
        if call.causal and number + 1 < len(chunks):
            state = _advanced(state, keys, chunk_values)
        sums = [x[..., -1:] for x in mixed]
        parts.append(_ratio([x[..., :-1] for x in mixed], sums, sums[0] == 0, call))
    return torch.cat(parts, 2).to(v.dtype)


def _advanced(state: list[Tensor], keys: Tensor, values: Tensor) -> list[Tensor]:
    return [old + feature.mT @ values for old, feature in zip(state, features(keys), strict=True)]


def features(x: Tensor) -> list[Tensor]:
    """Of each order, entries whose products with another's add up to ``(x · y)^o / o!``."""
    first, second = torch.triu_indices(x.shape[-1], x.shape[-1], device=x.device)
    weight = torch.where(first == second, 0.5, 1.0).to(x.dtype).sqrt()
    return [torch.ones_like(x[..., :1]), x, x[..., first] * x[..., second] * weight]


def _orders(x: Tensor) -> list[Tensor]:
    return [torch.ones_like(x), x, x * x / 2]


def _ratio(tops: list[Tensor], bottoms: list[Tensor], nothing: Tensor, call: Call) -> Tensor:
    """What the orders give, normalised together or each by itself; 0 where nothing is seen."""
    if call["form"] == "joint":
        tops, bottoms = [tops[0] + tops[1] + tops[2]], [bottoms[0] + bottoms[1] + bottoms[2]]
    parts = [top / bottom.masked_fill(nothing, 1) for top, bottom in zip(tops, bottoms, strict=True)]
    return torch.stack(parts).sum(0).masked_fill(nothing, 0)


operator = Operator(
    name="second-order",
    version=1,
    source="Arora et al. 2024, arXiv 2402.18668 (Based); Xue, Moosavi and Aletras 2025, arXiv 2510.11602 (Approximate)",
    status="as published",
    choices=("one normaliser for all orders, as in Based; the later paper prints one each, which is form='printed'",),
    settings={"form": Setting("joint", "word", "how weights are normalised", choices=("joint", "printed"))},
    row_stochastic=lambda settings: settings["form"] == "joint",
    form="polynomial",
    matrix=matrix,
    efficient=efficient,
)
