"""Arithmetic of the numbers that are made of a half-precision model's activations.

The model's own rounding is part of the model and stays. What the workbench sums, normalises or subtracts itself
(metrics, means, attributions, head scores) is computed in float32, or in float64 where the model is: a bfloat16 number
has 8 significant bits, so that probabilities summed in it miss 1 by a per cent, and divergences come out negative.
"""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.func import functional_call

HALF = (torch.float16, torch.bfloat16)


def at_least_float32(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Half precision as float32, which is exact; anything else as it is."""
    return x.float() if x.dtype in HALF else x


def called_in_float32(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)``, with half-precision weights and input taken as float32."""
    weights = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    if x.dtype not in HALF and not any(weight.dtype in HALF for weight in weights.values()):
        return module(x)
    upcast = {name: at_least_float32(weight) for name, weight in weights.items()}
    return functional_call(module, upcast, (at_least_float32(x),))
