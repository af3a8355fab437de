"""Masked reference: a second stream's tokens are read, most of all inside a region.

``A[i, j] = m̂_i softmax_j(q_i · k_j / √d)`` over the tokens of a reference, whose keys and values are k and v, with
``m̂ = m + outside · (1 − m)`` for the region's mask m. What it gives is added to the layer's own attention, through
an output projection that starts at 0. It attends to another stream, so it replaces no attention layer.

The mask comes as data: ``mask``, ``[pos]`` or ``[batch, pos]``, between 0 and 1, of all positions that have queries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.operator import Operator
from workbench.attention.primitives import needed, softmax_forms
from workbench.attention.primitives.visible import visible
from workbench.attention.settings import Setting
from workbench.errors import UsageError


def weights(q: Tensor, call: Call) -> Tensor:
    """m̂ of the last positions, ``[batch_or_1, 1, dest, 1]``.

    Raises:
        UsageError: there is no mask, or it has fewer positions than the queries.
    """
    mask = needed.data(call, "masked-reference", "mask", "which positions the region covers")
    if mask.shape[-1] < q.shape[2]:
        raise UsageError(
            f"masked-reference: data['mask'] is for {mask.shape[-1]} positions, and there are {q.shape[2]} queries."
        )
    mask = mask.to(q.dtype)[..., mask.shape[-1] - q.shape[2] :]
    mask = mask + call["outside"] * (1 - mask)
    return mask.reshape(-1, 1, q.shape[2], 1)


def _everything(call: Call) -> Call:
    return Call(scale=call.scale, causal=False, padding=call.padding)


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[batch, head, dest, token of the reference]``."""
    everything = _everything(call)
    return weights(q, call) * softmax_forms.pattern(
        q, k, visible(everything, q.shape[2], k.shape[2], q.device), everything
    )


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """By the kernel."""
    return weights(q, call) * softmax_forms.plain(q, k, v, _everything(call))


operator = Operator(
    name="masked-reference",
    version=1,
    source="DreamVideo-2, arXiv 2410.13830",
    status="as published",
    settings={"outside": Setting(0.75, "number", "weight outside the region (λ)", at_least=0, at_most=1)},
    role="pair",
    needs=("second stream", "data"),
    causal="no",
    row_stochastic=lambda settings: settings["outside"] == 1,
    resumes="no",
    matrix=matrix,
    efficient=efficient,
    trial=lambda batch, length: {"data": {"mask": (torch.arange(length) % 3 == 0).double()}},
)
