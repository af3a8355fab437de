"""The delta rule: linear attention that first takes away what its state already gives for a key.

``S ← S + β k (v − Sᵀ k)ᵀ``, ``z = Sᵀ q / √d``, with q and k of length one (`unit`). β, each head's strength of writing
at a position, is a sigmoid of a projection of the residual stream: 0 writes nothing, 1 overwrites.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.attention import gpu_kernels
from workbench.attention.call import Call
from workbench.attention.layer import LayerShape, OperatorModule, Project, Settings, State
from workbench.attention.operator import Operator
from workbench.attention.primitives import delta, gates, recurrence
from workbench.attention.primitives.visible import without_padding
from workbench.attention.settings import Setting


class Module(OperatorModule):
    """β of each head."""

    def __init__(self, shape: LayerShape, settings: Settings) -> None:
        super().__init__()
        self.beta = gates.constant_projection(shape.d_model, torch.full((shape.n_heads,), settings["beta"]).logit())

    def gates(self, x: Tensor, project: Project) -> dict[str, Tensor]:
        """``beta``, ``[batch, pos, head]``."""
        return {"beta": self.beta(x).sigmoid()}


def queries(q: Tensor, call: Call) -> Tensor:
    """q, of length one, by ``√d``."""
    q = q.to(recurrence.exact(q))
    return (delta.normalised(q) if call["unit"] else q) * q.shape[-1] ** -0.5


def keys(k: Tensor, call: Call) -> Tensor:
    """k, of length one, and 0 where there is padding."""
    k = k.to(recurrence.exact(k))
    return without_padding(delta.normalised(k) if call["unit"] else k, call)


def features(call: Call) -> recurrence.Features:
    """Both, of a piece."""
    return lambda q, k, piece: (queries(q, call), keys(k, call.positions(piece.start, piece.stop)))


def _beta(k: Tensor, call: Call) -> Tensor:
    return gates.of_heads(call, "beta", call["beta"], k)


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``tril(q kᵀ) (I + strictlower(β k kᵀ))⁻¹ diag(β)``."""
    return delta.matrix(queries(q, call), keys(k, call), _beta(k, call)).to(q.dtype)


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """In chunks, a triangular solve each."""
    return delta.chunked(q, k, v, _beta(k, call), features=features(call))


def kernel(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """By flash-linear-attention."""
    return gpu_kernels.delta_rule(q, without_padding(k, call), v, _beta(k, call), unit=call["unit"])


def advance(k: Tensor, v: Tensor, call: Call, state: State | None) -> State:
    """S."""
    return (delta.advance(keys(k, call), v, _beta(k, call), state=None if state is None else state[0]),)


def resume(q: Tensor, k: Tensor, v: Tensor, state: State, call: Call) -> Tensor:
    """From the state before."""
    return delta.chunked(q, k, v, _beta(k, call), state=state[0], features=features(call))


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """The state after the last position, ``[batch, head, d_head, d_value]``, and β, ``[batch, head, src]``."""
    return {"state": advance(k, v, call, None)[0], "beta": _beta(k, call).expand(k.shape[:3])}


operator = Operator(
    name="delta",
    version=1,
    source="Yang et al. 2024, arXiv 2406.06484; code fla-org/flash-linear-attention",
    status="as published",
    choices=("q and k are the layer's own, without DeltaNet's short convolution and SiLU",),
    settings={
        "unit": Setting(True, "flag", "q and k of length one"),
        "beta": Setting(0.5, "number", "β before training", above=0, at_most=1),
    },
    needs=("gates",),
    invents="β: the sigmoid of a projection of x with weights 0, whose bias gives the setting `beta`",
    causal="token",
    row_stochastic=False,
    resumes="state",
    form="delta",
    records=("state", "beta"),
    matrix=matrix,
    efficient=efficient,
    kernel=gpu_kernels.Kernel("fla", kernel),
    advance=advance,
    resume=resume,
    record=record,
    module=Module,
    check_length=lambda _: recurrence.CHUNK + 8,
)
