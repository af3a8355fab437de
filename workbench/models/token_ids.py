"""Checks of token ids and of attention masks, for everything that takes them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.arguments import refusal


def check_ids(name: str, ids: Any, d_vocab: int, n_ctx: int, expected: str, ndim: int) -> Int[Tensor, "*batch pos"]:
    """Token ids that a model can read, as int64.

    Args:
        n_ctx: the model's context length, 0 for one without a limit.
        expected: what they are, for the message. ndim: 1 for those of one prompt, 2 for a batch.

    Raises:
        UsageError: another shape or dtype, none, ids outside the vocabulary, or more than the model's context.
    """
    if not isinstance(ids, Tensor) or ids.ndim != ndim or not ids.numel():
        raise refusal(name, ids, expected)
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise refusal(name, ids, f"{expected}, whole numbers", because=f"these are {ids.dtype}")
    ids = ids.long()
    outside = ids[(ids < 0) | (ids >= d_vocab)]
    if len(outside):
        why = f"the vocabulary has {d_vocab} tokens, and {int(outside[0])} is not among them"
        raise refusal(name, ids, f"token ids from 0 to {d_vocab - 1}", because=why)
    if n_ctx and ids.shape[-1] > n_ctx:
        why = f"the context length of the model is {n_ctx:,}"
        raise refusal(name, ids, f"at most {n_ctx:,} tokens", "Shorten it.", because=why)
    return ids


def check_mask(mask: Any, ids: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch pos"]:
    """An attention mask of these ids: 1 for tokens, 0 for padding.

    Raises:
        UsageError: another shape, other values, or a row without tokens.
    """
    size = ", ".join(map(str, ids.shape))
    if not isinstance(mask, Tensor) or mask.shape != ids.shape:
        raise refusal("attention_mask", mask, f"a tensor of the ids' shape, ({size})")
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise refusal("attention_mask", mask, "1 for tokens and 0 for padding, and nothing else")
    if not bool(mask.any(-1).all()):
        raise refusal("attention_mask", mask, "at least one token in every row")
    return mask.to(ids.device).long()
