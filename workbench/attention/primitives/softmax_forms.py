"""Softmax over a selection of the sources, explicitly and by PyTorch's kernel. A row that sees nothing is 0."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from workbench.attention.call import Call
from workbench.attention.primitives.visible import visible

#: With more entries of a mask ``[head, dest, src]``, the kernel is called a head at a time: it makes floats of them.
LARGEST_MASK = 1 << 26


def softmax(
    scores: Float[Tensor, "batch head dest src"], keep: Bool[Tensor, "batch_or_1 head_or_1 dest src"]
) -> Float[Tensor, "batch head dest src"]:
    """Softmax of what is kept; a row with nothing is 0, and so is its gradient."""
    some = keep.any(-1, keepdim=True)
    scores = scores.masked_fill(~(keep | ~some), -torch.inf)  # such a row stays finite, and is set to 0 below
    pattern = torch.softmax(scores, -1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(scores.dtype)
    return pattern.masked_fill(~some, 0)


def pattern(
    q: Float[Tensor, "batch head dest d_head"],
    k: Float[Tensor, "batch head src d_head"],
    keep: Bool[Tensor, "batch_or_1 head_or_1 dest src"],
    call: Call,
) -> Float[Tensor, "batch head dest src"]:
    """``softmax(scale · q kᵀ)`` over the sources that are kept and visible."""
    seen = keep & visible(call, q.shape[2], k.shape[2], q.device)
    return softmax((q * call.scale) @ k.mT, seen)


def masked(
    q: Float[Tensor, "batch head dest d_head"],
    k: Float[Tensor, "batch head src d_head"],
    v: Float[Tensor, "batch head src d_value"],
    keep: Bool[Tensor, "batch_or_1 head_or_1 dest src"],
    call: Call,
) -> Float[Tensor, "batch head dest d_value"]:
    """z of the same by PyTorch's kernel."""
    seen = keep & visible(call, q.shape[2], k.shape[2], q.device)
    some = seen.any(-1, keepdim=True)
    seen = seen | ~some
    if seen[0].numel() > LARGEST_MASK and seen.shape[1] > 1:
        heads = [_kernel(q[:, [h]], k[:, [h]], v[:, [h]], seen[:, [h]], call.scale) for h in range(q.shape[1])]
        z = torch.cat(heads, 1)
    else:
        z = _kernel(q, k, v, seen, call.scale)
    return z if bool(some.all()) else z.masked_fill(~some, 0)


def plain(
    q: Float[Tensor, "batch head dest d_head"],
    k: Float[Tensor, "batch head src d_head"],
    v: Float[Tensor, "batch head src d_value"],
    call: Call,
) -> Float[Tensor, "batch head dest d_value"]:
    """z of softmax over all that is visible."""
    dest, src = q.shape[2], k.shape[2]
    if call.visible is None and call.padding is None and (not call.causal or dest == src or dest == 1):
        causal = call.causal and dest == src and dest > 1
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=call.scale)
    return masked(q, k, v, torch.ones(1, 1, dest, src, dtype=torch.bool, device=q.device), call)


def _kernel(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, scale: float) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale)
