"""What one head adds to every logit directly: through ``W_O``, the final norm and the unembedding, or through the
model's own modules where more stands between."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.core import Head
from workbench.errors import UsageError
from workbench.models.direct_path import DirectPath
from workbench.models.norms import centres, norm_scale
from workbench.models.precision import at_least_float32
from workbench.models.reads_writes import ReadsWrites


@torch.no_grad()
def logit_effects(
    model: Any,
    ids: Int[Tensor, "pos"],
    head: Head,
    z: Float[Tensor, "d_head"],
    final_residual: Float[Tensor, "d_model"],
) -> Float[Tensor, "d_vocab"]:
    """What a head's z at the last position adds to each logit, before any cap; at least in float32.

    z goes directly through ``W_O``, the final norm, with the scale of this run, and the unembedding; where more stands
    between z and the logits, through that too, each norm with its scale and each gate as in this run.

    Args:
        ids: the prompt's tokens. z, final_residual: the head's z, and the stream behind the last layer, at its end.

    Raises:
        UsageError: what the heads add does not add up in this model.
    """
    if is_direct(model):
        written = at_least_float32(z) @ at_least_float32(model.blocks[head.layer].attn.W_O[head.index])
        return to_logits(model, written / norm_scale(model.module(model.anatomy.final_norm), final_residual))
    if model.additivity.why_not:
        raise UsageError(f"The head's effect on logits: {model.additivity.why_not}")
    path = model.additivity.path or DirectPath(model)
    return at_least_float32(path.head_effects(ids[None].to(model.device), head.layer, head.index)[0]).cpu()


def is_direct(model: Any) -> bool:
    """Whether nothing but the final norm and the unembedding stands between what the heads write and the logits."""
    return model.additivity.is_short and model.anatomy.attn_out == model.anatomy.attention


@torch.no_grad()
def logit_effects_of_layer(
    model: Any, layer: int, z: Float[Tensor, "head d_head"], final_residual: Float[Tensor, "d_model"]
) -> Float[Tensor, "head d_vocab"]:
    """`logit_effects` of each head of a layer of a model that `is_direct`, with the unembedding read once."""
    written = torch.einsum("hd,hdm->hm", at_least_float32(z), at_least_float32(model.blocks[layer].attn.W_O))
    return to_logits(model, written / norm_scale(model.module(model.anatomy.final_norm), final_residual))


@torch.no_grad()
def to_logits(model: Any, x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_vocab"]:
    """A residual stream directly through the final norm (without its denominator), the unembedding and what scales the
    logits."""
    if not model.additivity.reads_out:
        return x.cpu() @ at_least_float32(ReadsWrites(model).readout_matrix()).cpu()
    norm = model.module(model.anatomy.final_norm)
    unembed = at_least_float32(model.W_U)
    x = x.to(unembed)
    if centres(norm, x):
        x = x - x.mean(-1, keepdim=True)
    x = x * model.norm_weight(norm)
    # From the left the unembedding of a few rows is read once, in the order in which it lies in memory.
    logits = ((unembed.mT @ x.mT).mT if x.ndim > 1 else x @ unembed).cpu()
    return logits if model.logit_scale == 1 else logits * model.logit_scale
