"""ProxyAttn: heads of a group share the scores of one proxy head, and keep as many blocks as each needs.

Heads are in `groups`; a group's proxy has the means of its heads' q and k. With blocks of `block` positions, of which
every `stride`-th is used, a pair of blocks scores the largest entry of ``softmax(scale · q̄ k̄ᵀ)`` in it, for all
heads of the group. A head's budget is the least share of blocks that holds `share` of what its last block of queries
attends to; each of its blocks of queries keeps that share of the blocks that it can see, rounded up, best first, and
its own block. ``A = softmax(scale · q kᵀ)`` over their keys. Later positions change scores, which are maxima over a
block of queries, and budgets.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.arguments import refusal
from workbench.attention.call import Call
from workbench.attention.layer import Settings
from workbench.attention.operator import Operator
from workbench.attention.primitives import block_sparse, softmax_forms
from workbench.attention.primitives.blocks import Blocks, ranks, require_whole
from workbench.attention.primitives.padding import compacted, refuse_padding
from workbench.attention.settings import Setting


def proxies(x: Tensor, call: Call) -> Tensor:
    """The mean over each group's heads, ``[batch, group, pos, d_head]``.

    Raises:
        UsageError: groups that the heads cannot be divided into, or that cut through a key/value head's queries.
    """
    groups, heads, kv = call["groups"], x.shape[1], call.n_kv_heads
    if heads % groups or (kv % groups and groups % kv):
        raise refusal("proxy-heads(groups)", groups, f"a number that divides {heads} heads along {kv} key/value heads")
    return x.unflatten(1, (groups, -1)).mean(2)


def proxy_rows(q: Tensor, k: Tensor, call: Call, start: int, stop: int) -> Tensor:
    """``softmax(scale · q̄ k̄ᵀ)`` of every `stride`-th position from `start` to `stop`."""
    stride = call["stride"]
    scores = (q[:, :, start:stop:stride] * call.scale) @ k[:, :, ::stride].mT
    if call.causal:
        at = torch.arange(0, k.shape[2], stride, device=q.device)
        scores = scores.masked_fill(at > at[(at >= start) & (at < stop), None], -torch.inf)
    return torch.softmax(scores, -1)


def block_scores(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """Of each pair of blocks, ``[batch, group, block, block]``."""
    queries, keys, size = proxies(q, call), proxies(k, call), call["block"]
    every, rows = size // call["stride"], []
    for start in range(0, q.shape[2], size):
        best = proxy_rows(queries, keys, call, start, start + size).amax(2)
        rows.append(F.pad(best, (0, -best.shape[-1] % every)).unflatten(-1, (-1, every)).amax(-1))
    return torch.stack(rows, 2)


def budgets(q: Tensor, k: Tensor, call: Call) -> tuple[Tensor, Tensor]:
    """What each head's last block of queries attends to by block, ``[batch, head, block]``, and how many blocks hold
    `share` of it, ``[batch, head]``."""
    blocks = Blocks.even(k.shape[2], call["block"], q.device)
    start = blocks.offsets[-2]
    rows = (q[:, :, start:] * call.scale) @ k.mT
    if call.causal:
        at = torch.arange(k.shape[2], device=q.device)
        rows = rows.masked_fill(at > at[start:, None], -torch.inf)
    mean = torch.softmax(rows, -1).mean(2)
    mass = mean.new_zeros(*mean.shape[:2], blocks.count).index_add_(2, blocks.labels, mean)
    held = mass.sort(dim=-1, descending=True, stable=True).values.cumsum(-1)
    number = (held < call["share"]).sum(-1) + 1
    return mass, number.clamp(max=blocks.count) if call["share"] < 1 else torch.full_like(number, blocks.count)


@torch.no_grad()
def selection(q: Tensor, k: Tensor, call: Call) -> tuple[Blocks, dict[str, Tensor]]:
    """The blocks, what was computed of them, and which each sees, ``Bool[batch, head, block, block]``."""
    require_whole("proxy-heads", q.shape[2], k.shape[2])
    blocks = Blocks.even(k.shape[2], call["block"], q.device)
    block = torch.arange(blocks.count, device=q.device)
    visible = block <= block[:, None] if call.causal else torch.ones_like(block <= block[:, None])
    scores = block_scores(q, k, call)
    mass, number = budgets(q, k, call)
    places = ranks(scores.masked_fill(~visible, -torch.inf)).repeat_interleave(q.shape[1] // call["groups"], 1)
    allowance = -(-number[..., None] * visible.sum(-1) // blocks.count)
    allowance = allowance.clamp(min=-(-call["floor"] // call["block"]))
    selected = (places < allowance[..., None]) & visible | torch.eye(blocks.count, dtype=torch.bool, device=q.device)
    return blocks, {"scores": scores, "mass": mass, "budgets": number, "selection": selected}


def mask(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[batch, head, dest, src]``."""
    if call.padding is not None:
        return compacted(mask, q, k, call)
    blocks, parts = selection(q, k, call)
    return parts["selection"][:, :, blocks.labels][..., blocks.labels]


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """A block of queries at a time with the keys of its blocks."""
    if not block_sparse.usable(q, k, v, call, Blocks.even(k.shape[2], call["block"], q.device)):
        return softmax_forms.masked(q, k, v, mask(q, k, call), call)
    blocks, parts = selection(q, k, call)
    return block_sparse.by_block(q, k, v, parts["selection"], blocks, call)


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """``proxy_pattern``, ``[batch, group, dest / stride, src / stride]``; ``scores`` of pairs of blocks; ``mass`` by
    block of each head's last block of queries; ``budgets``, in blocks; and ``selection``."""
    refuse_padding("proxy-heads", call)
    _, parts = selection(q, k, call)
    return {"proxy_pattern": proxy_rows(proxies(q, call), proxies(k, call), call, 0, q.shape[2]), **parts}


def check(settings: Settings) -> None:
    """A stride that divides a block."""
    if settings["block"] % settings["stride"]:
        raise refusal("proxy-heads(stride)", settings["stride"], f"a divisor of block={settings['block']}")


operator = Operator(
    name="proxy-heads",
    version=1,
    source="Wang et al. 2025, arXiv 2509.24745 (ProxyAttn), from summaries",
    status="reconstruction",
    choices=(
        "in a causal row of blocks the budget is that share of the blocks visible to it, rounded up",
        "a block's own keys are always seen, beside the budget",
        "no floor of 2,048 tokens by default: shorter prompts would be dense; 16 positions a block",
        "share=0.9, which the paper uses for one of two models; .95 for the other",
        "the budget's pattern is over all keys, without stride",
    ),
    settings={
        "block": Setting(16, "whole number", "positions of a block", at_least=1),
        "groups": Setting(1, "whole number", "proxy heads of a layer", at_least=1),
        "share": Setting(0.9, "number", "what a head's blocks must hold of its attention", above=0, at_most=1),
        "stride": Setting(4, "whole number", "the proxy reads every so many positions", at_least=1),
        "floor": Setting(
            0, "whole number", "positions that every query sees at least, where there are so many", at_least=0
        ),
    },
    causal="mask",
    heads_independent=False,
    resumes="no",
    form="proxy-selected softmax",
    records=("proxy_pattern", "scores", "mass", "budgets", "selection"),
    mask=mask,
    efficient=efficient,
    record=record,
    check_length=lambda settings: 8 * settings["block"] + 8,
    check=check,
)
