"""The gated delta rule: the delta rule with a state that each head also lets decay.

``S ← exp(g) S``, then ``S ← S + β k (v − Sᵀ k)ᵀ``, ``z = Sᵀ q / √d``, with q and k of length one (`unit`). β is a
sigmoid and ``g ≤ 0`` minus a softplus of projections of the residual stream.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.attention import gpu_kernels
from workbench.attention.call import Call
from workbench.attention.layer import LayerShape, OperatorModule, Project, Settings, State
from workbench.attention.operator import Operator
from workbench.attention.operators.delta import features, keys, queries
from workbench.attention.primitives import delta, gates, recurrence
from workbench.attention.primitives.visible import without_padding
from workbench.attention.settings import Setting


class Module(OperatorModule):
    """β and g of each head."""

    def __init__(self, shape: LayerShape, settings: Settings) -> None:
        super().__init__()
        rate = torch.full((shape.n_heads,), -math.log(settings["decay"]))
        self.beta = gates.constant_projection(shape.d_model, torch.full_like(rate, settings["beta"]).logit())
        self.g = gates.constant_projection(shape.d_model, rate.expm1().log())

    def gates(self, x: Tensor, project: Project) -> dict[str, Tensor]:
        """``beta`` and ``g``, ``[batch, pos, head]``."""
        return {"beta": self.beta(x).sigmoid(), "g": -F.softplus(self.g(x))}


def _gates(k: Tensor, call: Call) -> tuple[Tensor, Tensor]:
    """β, and g, which is 0 at padding."""
    g = gates.of_heads(call, "g", math.log(call["decay"]), k)
    g = g if call.padding is None else g * call.padding[:, None]
    return gates.of_heads(call, "beta", call["beta"], k), g


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``tril(q kᵀ ⊙ D) (I + strictlower(β k kᵀ ⊙ D))⁻¹ diag(β)``, with ``D_ij = exp(g_{j+1} + … + g_i)``."""
    return delta.matrix(queries(q, call), keys(k, call), *_gates(k, call)).to(q.dtype)


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """In chunks, a triangular solve each."""
    return delta.chunked(q, k, v, *_gates(k, call), features=features(call))


def kernel(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """By flash-linear-attention."""
    return gpu_kernels.delta_rule(q, without_padding(k, call), v, *_gates(k, call), unit=call["unit"])


def advance(k: Tensor, v: Tensor, call: Call, state: State | None) -> State:
    """S."""
    return (delta.advance(keys(k, call), v, *_gates(k, call), None if state is None else state[0]),)


def resume(q: Tensor, k: Tensor, v: Tensor, state: State, call: Call) -> Tensor:
    """From the state before."""
    return delta.chunked(q, k, v, *_gates(k, call), state[0], features=features(call))


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """The state after the last position, ``[batch, head, d_head, d_value]``, β and g, ``[batch, head, src]``."""
    beta, g = (gate.expand(k.shape[:3]) for gate in _gates(k, call))
    return {"state": advance(k, v, call, None)[0], "beta": beta, "g": g}


operator = Operator(
    name="gated-delta",
    version=1,
    source="Yang et al. 2024, arXiv 2412.06464; code fla-org/flash-linear-attention",
    status="as published",
    choices=(
        "q and k are the layer's own, without Gated DeltaNet's short convolution and SiLU",
        "g = −softplus(projection): the models' factor exp(A) is in the projection",
    ),
    settings={
        "unit": Setting(True, "flag", "q and k of length one"),
        "beta": Setting(0.5, "number", "β before training", above=0, at_most=1),
        "decay": Setting(0.98, "number", "exp(g) before training", above=0, at_most=1),
    },
    needs=("gates",),
    invents="β and g: projections of x with weights 0, whose biases give the settings `beta` and `decay`",
    causal="token",
    row_stochastic=False,
    resumes="state",
    form="delta",
    records=("state", "beta", "g"),
    matrix=matrix,
    efficient=efficient,
    kernel=gpu_kernels.Kernel("fla", kernel),
    advance=advance,
    resume=resume,
    record=record,
    module=Module,
    check_length=lambda _: recurrence.CHUNK + 8,
)
