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
#: Relative tolerance of each precision for sums taken in another order. Most families compute norms, rotations and
#: softmax in float32 even in a float64 model.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.02}


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


def close(a: Tensor, b: Tensor) -> bool:
    """Whether two results are the same up to the order of sums in their precision."""
    return bool((a - b).abs().max() <= TOLERANCE.get(b.dtype, 1e-4) * b.abs().max().clamp(min=1e-3))


def same_tensor(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same shape, dtype and numbers."""
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
