"""What rounding alone does to a model in half precision."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from jaxtyping import Shaped
from torch import Tensor

from workbench.models.precision import HALF

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel

#: The share of its largest output by which a precision's rounding moves an ordinary model.
ORDINARY = {torch.bfloat16: 0.05, torch.float16: 0.02}


@torch.no_grad()
def warn_of_rounding(model: HookedModel, inputs: Shaped[Tensor, "two pos *rest"]) -> bool:
    """Say it where rounding moves something discrete, such as the choice of experts, so that the same sums in another
    order give other outputs. Returns whether it was said."""
    if model.dtype not in HALF:
        return False
    taps = {model.hook_name("pattern", layer): lambda _: None for layer in range(model.n_layers)}
    with model.state_put_back():
        expected = model.outputs(inputs)
        with model.running(taps):
            moved = model.outputs(inputs)
    off, largest = float((moved - expected).abs().max()), float(expected.abs().max())
    if off <= ORDINARY[model.dtype] * largest:
        return False
    warnings.warn(
        f"{type(model.hf).__name__} in {str(model.dtype).removeprefix('torch.')}: rounding alone moves its outputs by "
        f"{off:.2g} of {largest:.2g} (the choice of experts, for instance), so its effects are uncertain by as much. "
        "Use float32.",
        stacklevel=6,
    )
    return True
