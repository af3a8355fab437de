"""Which positions the last one may see, in every layer: windows, chunks and indexers hide some."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from workbench.models.explicit_attention import is_causal
from workbench.models.reference_attention import HIDDEN, visible
from workbench.models.resumable_layers import ResumableLayers

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel


def visible_from_the_end(
    model: HookedModel, input: Shaped[Tensor, "pos *rest"]
) -> tuple[Bool[Tensor, "layer head pos"], bool]:
    """What each head's last row of attention may see in one input, as its layer's mask says; and whether every input of
    that length is the same in this (no layer was given a mask)."""
    run, length, rows = ResumableLayers(model).base_run(input[None]), len(input), []
    for module, inputs in zip(model.attentions, run.attention_inputs, strict=True):
        mask = inputs.mask
        if mask is None:
            window = inputs.arguments.get("sliding_window")
            mask = visible(length, length, is_causal(module, inputs.arguments), window, inputs.keys.device)
        if mask is None:
            row = torch.ones(1, length, dtype=torch.bool, device=inputs.keys.device)
        else:
            last = mask.reshape(-1, *mask.shape[-2:])[..., -1, -length:]  # [1 or head, pos]
            row = last if last.dtype == torch.bool else last > HIDDEN
        rows.append(row.expand(model.n_heads, length))
    return torch.stack(rows), all(inputs.mask is None for inputs in run.attention_inputs)
