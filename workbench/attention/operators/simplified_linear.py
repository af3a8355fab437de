"""Simplified linear attention (LiT): relu linear attention plus a depth-wise convolution of the values on the grid.

``z_i = Σ_j φ(q_i)·φ(k_j) v_j / Σ_j φ(q_i)·φ(k_j) + Σ_o w_o ⊙ v_{i+o}`` with φ = relu, over all j, and over the offsets
o of a small window on the grid. The kernel w has one weight a channel of a head and offset; all heads share it.
Positions ahead of the grid attend and are attended to, and take no part in the convolution.

A is one matrix a channel: ``A[c, i, j]`` is the weight of linear attention plus ``w_c`` at the offset of j from i.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.attention.call import Call
from workbench.attention.layer import LayerShape, OperatorModule, Settings
from workbench.attention.operator import Operator
from workbench.attention.primitives.recurrence import average, exact
from workbench.attention.primitives.visible import without_padding
from workbench.attention.settings import Setting
from workbench.errors import UsageError


def sizes(settings: Settings) -> tuple[int, ...]:
    """The kernel's size on each axis."""
    kernel = settings["kernel"]
    return kernel if isinstance(kernel, tuple) else (kernel, kernel)


class Module(OperatorModule):
    """The kernel."""

    def __init__(self, shape: LayerShape, settings: Settings) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(shape.d_value, *sizes(settings)))

    def data(self) -> dict[str, Tensor]:
        """``kernel``, ``[d_value, *sizes]``."""
        return {"kernel": self.kernel}


def check(settings: Settings) -> None:
    """Odd sizes, on one to three axes."""
    if len(sizes(settings)) > 3 or any(size % 2 == 0 for size in sizes(settings)):
        raise UsageError(
            f"simplified-linear(kernel)={settings['kernel']}: expected an odd number (of a square), or one for each of "
            "1 to 3 axes of the grid."
        )


def kernel(call: Call, length: int) -> Tensor:
    """The kernel, ``[d_value, *sizes]``; the grid fits it and the positions.

    Raises:
        UsageError: no kernel, no grid, or another number of axes or positions.
    """
    size = sizes(call.settings)
    if "kernel" not in call.data:
        raise UsageError("simplified-linear: expected data['kernel']. Take it from the operator's module.")
    if len(call.grid) != len(size):
        raise UsageError(
            f"grid={call.grid}: expected {len(size)} axes, as kernel={size} has. Give the grid that positions lie on."
        )
    if math.prod(call.grid) + call.before != length:
        raise UsageError(f"grid={call.grid} with {call.before} positions before it: expected {length} positions.")
    return call.data["kernel"].to(torch.promote_types(call.data["kernel"].dtype, torch.float32))


def _linear(q: Tensor, k: Tensor, call: Call) -> tuple[Tensor, Tensor]:
    """The pattern of linear attention, and each query's denominator."""
    kind = exact(q)
    weights = F.relu(q.to(kind)) @ without_padding(F.relu(k.to(kind)), call).mT
    total = weights.sum(-1, keepdim=True)
    return weights / total.masked_fill(total == 0, torch.inf), total[..., 0]


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[batch, head, channel, dest, src]``."""
    dest, src = q.shape[2], k.shape[2]
    near = F.pad(_convolution(kernel(call, src), call), (call.before, 0, call.before, 0))[:, src - dest :]
    if call.padding is not None:
        near = near * call.padding[:, None, None, None, :]
    return (_linear(q, k, call)[0][:, :, None] + near).to(q.dtype)


def _convolution(weight: Tensor, call: Call) -> Tensor:
    """``[channel, n, n]``: at (i, j) the weight of the offset of j from i."""
    place = torch.cartesian_prod(*(torch.arange(size, device=weight.device) for size in call.grid))
    place = place.view(-1, len(call.grid))
    offset = place[None] - place[:, None] + torch.tensor([size // 2 for size in weight.shape[1:]]).to(place)
    size = torch.tensor(weight.shape[1:]).to(place)
    inside = ((offset >= 0) & (offset < size)).all(-1)
    entries = weight[(slice(None), *offset.clamp(min=0).minimum(size - 1).unbind(-1))]
    return entries * inside


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """Two products and a convolution."""
    kind, dest, src = exact(q), q.shape[2], k.shape[2]
    values, weight = without_padding(v.to(kind), call), kernel(call, src).to(kind)
    keys = without_padding(F.relu(k.to(kind)), call)
    z = average(F.relu(q.to(kind)) @ (keys.mT @ F.pad(values, (0, 1), value=1.0)))
    image = values[:, :, call.before :].mT.flatten(0, 1).unflatten(-1, call.grid)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(call.grid) - 1]
    near = convolve(image, weight[:, None], padding=[size // 2 for size in weight.shape[1:]], groups=weight.shape[0])
    near = near.flatten(2).unflatten(0, v.shape[:2]).mT
    return (z + F.pad(near, (0, 0, call.before, 0))[:, :, src - dest :]).to(v.dtype)


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """The pattern of linear attention alone, ``[batch, head, dest, src]``, each query's denominator, ``[batch, head,
    dest]``, and the kernel, ``[d_value, *sizes]``."""
    pattern, total = _linear(q, k, call)
    return {"linear_pattern": pattern, "denominator": total, "kernel": kernel(call, k.shape[2])}


def trial(batch: int, length: int) -> dict[str, object]:
    """A nearly square grid, with one position before it."""
    before = int(length > 2)
    rows = math.isqrt(length - before)
    return {"grid": (rows, (length - before) // rows), "before": before}


operator = Operator(
    name="simplified-linear",
    version=1,
    source="Wang et al. 2025 (LiT), arXiv 2501.12976",
    status="reconstruction",
    choices=(
        "the convolution acts on the values, its result is added to every head's, and heads share the kernel: so in a "
        "later project of the first author's (LINA), in lines that are commented out",
        "no bias of the convolution, and nothing added to the features",
    ),
    settings={"kernel": Setting(5, "sizes", "the kernel's size on each axis of the grid", at_least=1)},
    needs=("grid",),
    invents="the kernel of the convolution, which begins at 0",
    causal="no",
    row_stochastic=False,
    matrix_axis="channel",
    form="linear",
    records=("linear_pattern", "denominator", "kernel"),
    matrix=matrix,
    efficient=efficient,
    record=record,
    module=Module,
    trial=trial,
    check=check,
    check_length=lambda settings: math.prod(size + 2 for size in sizes(settings)),
)
