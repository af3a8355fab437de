"""Mixture of block attention (MoBA): each query sees its own block, and the best of the blocks before it.

With blocks of `block` keys, query i scores block n by ``g_in = q_i · mean of k over n``, in float32 at least and
without a scale. Its own block comes first whatever its score; blocks that begin after it are out where attention is
causal. ``A = softmax(scale · q kᵀ)`` over the keys of the `top_k` best blocks, own block included, that are not later
than i.

The released kernel takes ``top_k − 1`` blocks beside the own one, and attends to *everything* where these are none;
`released` does so too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.operator import Operator
from workbench.attention.primitives import block_sparse, softmax_forms
from workbench.attention.primitives.blocks import Blocks, top
from workbench.attention.primitives.padding import compacted, refuse_padding
from workbench.attention.settings import Setting


def gate(q: Tensor, k: Tensor, blocks: Blocks) -> Tensor:
    """``g``, ``[batch, head, dest, block]``."""
    means = blocks.means(k)
    return q.to(means.dtype) @ means.mT


@torch.no_grad()
def selection(q: Tensor, k: Tensor, blocks: Blocks, call: Call) -> Tensor:
    """The blocks that each query sees, ``Bool[batch, head, dest, block]``."""
    own = blocks.labels[k.shape[2] - q.shape[2] :, None]
    block = torch.arange(blocks.count, device=q.device)
    scores = gate(q, k, blocks).masked_fill(block == own, torch.inf)
    if call.causal:
        scores = scores.masked_fill(block > own, -torch.inf)
    everything = call["released"] and call["top_k"] == 1
    return scores > -torch.inf if everything else top(scores, call["top_k"])


def mask(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[batch, head, dest, src]``; what is later in the own block is left to causality."""
    if call.padding is not None:
        return compacted(mask, q, k, call)
    blocks = Blocks.even(k.shape[2], call["block"], q.device)
    return selection(q, k, blocks, call)[..., blocks.labels]


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """A block of keys at a time: the queries that selected it are gathered, and merged by their log-sum-exp."""
    blocks = Blocks.even(k.shape[2], call["block"], q.device)
    if not block_sparse.usable(q, k, v, call, blocks):
        return softmax_forms.masked(q, k, v, mask(q, k, call), call)
    return block_sparse.by_query(q, k, v, selection(q, k, blocks, call), blocks, call)


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """The scores of all blocks, and which were selected: ``[batch, head, dest, block]``."""
    refuse_padding("block-mixture", call)
    blocks = Blocks.even(k.shape[2], call["block"], q.device)
    return {"gate": gate(q, k, blocks), "selection": selection(q, k, blocks, call)}


operator = Operator(
    name="block-mixture",
    version=1,
    source="Lu et al. 2025, arXiv 2502.13189; code MoonshotAI/MoBA",
    status="as released",
    choices=(
        "16 positions a block: the source has no default, and uses 128 and more for long contexts",
        "where attention is not causal, later blocks may be selected too",
    ),
    settings={
        "block": Setting(16, "whole number", "positions of a block", at_least=1),
        "top_k": Setting(3, "whole number", "blocks that each query sees, its own included", at_least=1),
        "released": Setting(False, "flag", "top_k=1 attends to everything, as the released kernel does"),
    },
    form="block-selected softmax",
    records=("gate", "selection"),
    mask=mask,
    efficient=efficient,
    record=record,
    check_length=lambda settings: settings["block"] * settings["top_k"] + 8,
)
