"""How much a head would write if it attended to one source alone."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def value_output_norms(
    v: Float[Tensor, "batch kv_head src d_value"], W_O: Float[Tensor, "head d_value d_model"]
) -> Float[Tensor, "batch head src"]:
    """``‖v_k W_O‖`` of each head (Kobayashi et al. 2020), in units of the residual stream.

    ``‖v W‖² = v (W Wᵀ) vᵀ``, so that no vector of the residual stream's width is made. The squares are summed in
    float64 (where the device has it): a root of rounded squares would lose half of the digits.
    """
    exact = torch.float32 if v.device.type == "mps" else torch.float64
    weight = W_O.to(exact)
    of_heads = v.to(exact).repeat_interleave(len(weight) // v.shape[1], 1)
    squares = torch.linalg.vecdot(of_heads @ (weight @ weight.mT), of_heads)
    return squares.clamp(min=0).sqrt().to(torch.promote_types(v.dtype, torch.float32))
