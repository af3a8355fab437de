"""Weights that hold NaN are named; infinite ones, and numbers that torch cannot sum, are left to the other checks."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from workbench.models.nan_weights import tensor_with_nan


def test_the_first_tensor_with_nan_is_named() -> None:
    module: Any = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    assert tensor_with_nan(module) == ""
    module.register_buffer("mask", torch.tensor([torch.inf, -torch.inf, 1.0]))  # whose sum is NaN
    module.register_buffer("packed", torch.zeros(3, dtype=torch.uint8))
    assert tensor_with_nan(module) == ""
    module[1].bias.data[1] = torch.nan
    assert tensor_with_nan(module) == "1.bias (1 of 2 numbers)"
    module.half()
    assert tensor_with_nan(module) == "1.bias (1 of 2 numbers)"
    module[1].bias.data.zero_()
    module[0].weight.data.fill_(6e4)  # a sum beyond half precision
    assert tensor_with_nan(module) == ""
