"""Softmax attention in parts: z over a set of keys with its log-sum-exp, and two such parts merged, exactly.

With ``l = log Σ_j exp(s_j)`` of each part, ``z = (e^l₁ z₁ + e^l₂ z₂) / (e^l₁ + e^l₂)`` is z over both sets.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def attend(
    q: Float[Tensor, "batch head dest d_head"],
    k: Float[Tensor, "batch head src d_head"],
    v: Float[Tensor, "batch head src d_value"],
    scale: float,
    causal: bool = False,
) -> tuple[Float[Tensor, "batch head dest d_value"], Float[Tensor, "batch head dest"]]:
    """z and its log-sum-exp; `causal` where dest and src are the same positions. The log-sum-exp has no gradient on
    the CPU."""
    if q.device.type == "cpu" and q.shape[-1] == v.shape[-1]:
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scale)
    scores = ((q * scale) @ k.mT).to(torch.promote_types(q.dtype, torch.float32))
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    total = scores.logsumexp(-1)
    return torch.exp(scores - total[..., None]).to(v.dtype) @ v, total


def merge(
    first: tuple[Float[Tensor, "*rest d_value"], Float[Tensor, "*rest"]],
    second: tuple[Float[Tensor, "*rest d_value"], Float[Tensor, "*rest"]],
) -> tuple[Float[Tensor, "*rest d_value"], Float[Tensor, "*rest"]]:
    """The two parts as one; a part over no keys has −∞ for its log-sum-exp, one of the two at most."""
    (z, lse), (other, other_lse) = first, second
    share = torch.sigmoid(other_lse - lse)[..., None].to(z.dtype)
    return torch.lerp(z, other.to(z.dtype), share), torch.logaddexp(lse, other_lse)
