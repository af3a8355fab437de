"""Weights that hold NaN, found when a model is checked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Precisions whose numbers torch can sum.
_SUMMED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def tensor_with_nan(module: nn.Module) -> str:
    """The name of the first parameter or buffer that holds NaN, and how much of it; empty where none does.

    A sum is NaN wherever a term is, and takes no memory; it is NaN too where +∞ meets −∞, so the few are looked at.
    """
    for name, x in (*module.named_parameters(), *module.named_buffers()):
        if _may_hold_nan(x) and (nan := x.detach().isnan()).any():
            return f"{name} ({int(nan.sum()):,} of {nan.numel():,} numbers)"
    return ""


def _may_hold_nan(x: Tensor) -> bool:
    is_read = x.dtype in _SUMMED and x.device.type != "meta" and x.layout == torch.strided
    return is_read and bool(x.detach().sum().isnan())
