"""Gates of an operator that is put into a trained layer: projections of x that begin as constants."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.attention.call import Call


def constant_projection(d_model: int, bias: Float[Tensor, "d_out"]) -> nn.Linear:
    """A linear layer without weight yet: whatever x is, it gives its bias; training can change that."""
    layer = cast(nn.Linear, nn.utils.skip_init(nn.Linear, d_model, len(bias), dtype=bias.dtype))
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(bias)
    return layer


def of_heads(
    call: Call, name: str, constant: float, k: Float[Tensor, "batch head src d"]
) -> Float[Tensor, "batch_or_1 head_or_1 src"]:
    """A gate of each head, ``[batch, src, head]`` in `Call.gates`; the constant where the call has none."""
    gate = call.gates.get(name)
    if gate is None:
        return torch.full((1, 1, k.shape[2]), constant, dtype=torch.promote_types(k.dtype, torch.float32)).to(k.device)
    return gate.transpose(1, 2)
