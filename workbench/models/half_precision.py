"""What rounding alone does to a model in half precision."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from jaxtyping import Shaped
from torch import Tensor

from workbench.models.precision import HALF
from workbench.models.resumption import WatchedRun, layers_alone

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel

#: The share of what a layer adds at a position by which half precision's rounding moves it where nothing is discrete:
#: up to 0.02 in bfloat16. Another expert moves it by a tenth to all of it.
ORDINARY = 0.08


@torch.no_grad()
def warn_of_rounding(model: HookedModel, inputs: Shaped[Tensor, "two pos *rest"]) -> bool:
    """Say it where rounding moves something discrete, such as the choice of experts: each layer is compared with itself
    in float32, on the same residual stream. Returns whether it was said."""
    if model.dtype not in HALF:
        return False
    with model.state_put_back():
        run = WatchedRun.of(model, inputs)
        largest = 0.0
        for layer in layers_alone(model, run):
            added = (layer.after - layer.before).flatten(2).norm(dim=-1)
            off = (run.outputs[layer.index].float() - layer.after).flatten(2).norm(dim=-1)
            # What the residual stream itself is rounded by is no change of what the layer adds.
            rounding = torch.finfo(run.outputs[layer.index].dtype).eps * layer.after.flatten(2).norm(dim=-1)
            largest = max(largest, float(((off - rounding).clamp(min=0) / added).max()))
    if largest <= ORDINARY:
        return False
    dtype = str(model.dtype).removeprefix("torch.")
    warnings.warn(
        f"{type(model.hf).__name__} in {dtype}: rounding alone moves what a layer adds at a position by {largest:.0%} "
        "(the choice of experts, for instance), so its effects are uncertain by as much. Use float32.",
        stacklevel=6,
    )
    return True
