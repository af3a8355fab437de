"""How much each source matters to each destination where an operator has no matrix: norms of blocks of its Jacobian."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from workbench import arguments
from workbench.attention.call import Call
from workbench.attention.operator import BoundOperator

#: Rows of the Jacobian that one backward pass gives.
ROWS = 256


def influence(
    bound: BoundOperator,
    q: Float[Tensor, "batch head dest d_head"],
    k: Float[Tensor, "batch head src d_head"],
    v: Float[Tensor, "batch head src d_value"],
    call: Call,
    *,
    of: Literal["v", "qkv"] = "v",
) -> Float[Tensor, "batch head dest src"]:
    """``‖∂z_i / ∂v_j‖``, the Frobenius norm of each token block ``[d_value, d_value]`` of a head's own Jacobian at
    these q, k and v.

    Of an operator with a matrix that is linear in v it is ``|A_ij| √d_value``. It is no pattern: it has no sign, rows
    do not sum to one, and of an operator that is not linear in v it holds at this v alone.

    Args:
        of: ``"v"``, or ``"qkv"`` for the three together: ``‖∂z_i / ∂(q_j, k_j, v_j)‖``, with gates held. A query counts
            at its own position.

    Returns:
        In units of z per unit of v (or of q, k and v).

    Raises:
        UsageError: another `of`.
    """
    names = arguments.one_of("of", of, ("v", "qkv"))
    with torch.enable_grad():
        inputs = {name: x.detach().clone().requires_grad_() for name, x in (("q", q), ("k", k), ("v", v))}
        z = bound.z(inputs["q"], inputs["k"], inputs["v"], call)
    batch, heads, dest, d_value = z.shape
    together = bool(bound.declared("heads_independent"))  # then one backward pass serves all heads
    groups = [slice(None)] if together else [slice(h, h + 1) for h in range(heads)]
    squares = z.new_zeros(batch, heads, dest, k.shape[2])
    chosen = [inputs[name] for name in names]
    for head in groups:
        for start in range(0, dest * d_value, ROWS):
            entries = torch.arange(start, min(start + ROWS, dest * d_value), device=z.device)
            cotangents = z.new_zeros(len(entries), *z.shape).flatten(3)
            cotangents[torch.arange(len(entries), device=z.device), :, head, entries] = 1
            for x, slope in zip(chosen, _pulled_back(z, chosen, cotangents.unflatten(3, (dest, d_value))), strict=True):
                sizes = slope[:, :, head].square().sum(-1).permute(1, 2, 0, 3)  # [batch, head, entry, position]
                rows = squares[:, head, :, k.shape[2] - x.shape[2] :]
                rows.index_add_(2, entries // d_value, sizes)
    return squares.sqrt()


def _pulled_back(z: Tensor, inputs: list[Tensor], cotangents: Tensor) -> list[Tensor]:
    """``cotangent · ∂z/∂input`` for each cotangent, ``[cotangent, *input]``: all at once where torch can."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an operation that is done one by one
            slopes = torch.autograd.grad(
                z, inputs, cotangents, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
    except RuntimeError:
        each = [torch.autograd.grad(z, inputs, row, retain_graph=True, allow_unused=True) for row in cotangents]
        slopes = [None if one[0] is None else torch.stack(one) for one in zip(*each, strict=True)]
    count = len(cotangents)
    return [x.new_zeros(count, *x.shape) if s is None else s for x, s in zip(inputs, slopes, strict=True)]
