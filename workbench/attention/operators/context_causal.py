"""Context-causal: a causal context, and one block of positions behind it that see each other (block diffusion).

``A = softmax(q kᵀ / √d)`` over ``{j ≤ i, or i and j both in the block}``; the block begins behind `context`
positions, or is the last one of blocks of that size. With ``form="training"`` the positions are ``[noised; clean]``,
two halves of the same text in blocks b: noised ones see the noised ones of their own block and the clean ones of
earlier blocks (``b_j < b_i``), clean ones see clean ones causally. Places are counted without padding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.attention.call import Call
from workbench.attention.layer import Settings
from workbench.attention.operator import Operator
from workbench.attention.primitives import softmax_forms
from workbench.attention.primitives.visible import places, rows
from workbench.attention.settings import Setting
from workbench.errors import UsageError


def start_of_block(call: Call, count: Tensor) -> Tensor:
    """Where the block begins among that many positions."""
    if call["context"] is not None:
        return torch.full_like(count, call["context"])
    return (count - 1).clamp(min=0) // call["block"] * call["block"]


def mask(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[batch_or_1, 1, dest, src]``."""
    place, count = places(call, k.shape[2], q.device)
    if call["form"] == "training":
        return _training(place, count, q.shape[2], call["block"])
    start = start_of_block(call, count)
    destination, source = rows(place, q.shape[2])
    inside, of_block = rows((place >= start) & (place < start + call["block"]), q.shape[2])
    return (source <= destination) | (inside & of_block)


def _training(place: Tensor, count: Tensor, dest: int, block: int) -> Tensor:
    if (count % 2).any():
        raise UsageError(
            f"context-causal(form='training') takes a noised and a clean copy of a text: expected an even number of "
            f"positions, not {int(count[count % 2 == 1][0])}."
        )
    half = count // 2
    clean, is_clean = rows(place >= half, dest)
    destination, source = rows(place % half.clamp(min=1), dest)
    earlier, same = source // block < destination // block, source // block == destination // block
    noised = torch.where(is_clean, earlier, same)
    return torch.where(clean, is_clean & (source <= destination), noised)


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """Causal attention for the context, and all of the sources for a block that ends the sequence."""
    src = k.shape[2]
    start = int(start_of_block(call, torch.tensor(src)))
    ends = call["form"] == "inference" and start < src <= start + call["block"]
    if not ends or call.visible is not None or call.padding is not None or q.shape[2] != src:
        return softmax_forms.masked(q, k, v, mask(q, k, call), call)
    block = F.scaled_dot_product_attention(q[:, :, start:], k, v, scale=call.scale)
    if not start:
        return block
    queries, keys, values = (x[:, :, :start] for x in (q, k, v))
    context = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=call.scale)
    return torch.cat([context, block], 2)


def first_position(settings: Settings) -> int:
    """The size of blocks, counted from the first position, of which none cuts the block in two."""
    block, context = settings["block"], settings["context"] or 0
    return block if context % block == 0 else context + block


operator = Operator(
    name="context-causal",
    version=1,
    source="NBDiff; code YuchuanTian/NBDiff e0c10f3",
    status="as published",
    choices=("without `context` the block is the last one of blocks of its size, counted from the first position",),
    settings={
        "block": Setting(32, "whole number", "positions of a block", at_least=1),
        "context": Setting(None, "whole number", "positions before the block", at_least=0, optional=True),
        "form": Setting("inference", "word", "which mask", choices=("inference", "training")),
    },
    causal=lambda settings: "block" if settings["form"] == "inference" else "no",
    mask=mask,
    efficient=efficient,
    check_length=lambda settings: (settings["context"] or settings["block"]) + settings["block"] // 2 + 4,
    block=first_position,
)
