"""MLP: no mixing at all, a gated unit in attention's place that reads its own position alone.

``z_i = silu(g_i) ⊙ v_i`` with g the layer's own query projection of x, before any rotation: the MLP variant of
"Deconstructing Attention", with as many parameters as attention. A is diagonal, another one for each channel. It
swaps like a mixer, and mixes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.attention.call import Call
from workbench.attention.layer import LayerShape, OperatorModule, Project, Settings
from workbench.attention.operator import Operator
from workbench.attention.primitives import needed
from workbench.attention.primitives.visible import without_padding
from workbench.errors import UsageError


class Gate(OperatorModule):
    """No parameters: the layer's own queries, as many entries as values have."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def gates(self, x: Tensor, project: Project) -> dict[str, Tensor]:
        """``gate [batch, pos, head, d_value]``."""
        return {"gate": project("query", x)[..., : self.width]}


def module(shape: LayerShape, settings: Settings) -> OperatorModule:
    """Without parameters.

    Raises:
        UsageError: values are wider than queries.
    """
    if shape.d_value > shape.d_head:
        raise UsageError(
            f"mlp gates each value by a query's entry: layer {shape.layer} has {shape.d_value} values and "
            f"{shape.d_head} entries a head."
        )
    return Gate(shape.d_value)


def factor(call: Call, dest: int, like: Tensor) -> Tensor:
    """What the values of the last positions are multiplied by, ``[batch, head, dest, d_value]``; 0 at padding."""
    gate = needed.gate(call, "mlp", "gate", "a gate for each value [batch, src, head, d_value]").transpose(1, 2)
    gate = without_padding(F.silu(gate.to(like.dtype)), call)
    return gate[:, :, gate.shape[2] - dest :]


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """Diagonal: ``[batch, head, channel, dest, src]``."""
    dest, src = q.shape[2], k.shape[2]
    diagonal = torch.eye(src, dtype=q.dtype, device=q.device)[src - dest :]
    return factor(call, dest, q).mT[..., None] * diagonal


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """The product."""
    dest = q.shape[2]
    return factor(call, dest, v) * v[:, :, v.shape[2] - dest :]


operator = Operator(
    name="mlp",
    version=1,
    source="Xue, Moosavi and Aletras 2025, arXiv 2510.11602 (MLP)",
    status="as published",
    choices=(
        "the query projection is the gate's, the value projection the other: a trained layer invents nothing",
        "where values are narrower than queries: the first entries of a query",
    ),
    needs=("gates",),
    ignores=("q", "k"),
    causal="token",
    row_stochastic=False,
    matrix_axis="channel",
    form="position-wise",
    matrix=matrix,
    efficient=efficient,
    module=module,
)
