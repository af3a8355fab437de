"""Lightning attention: a decaying sum over earlier positions, without a softmax.

``z_i = Σ_{j ≤ i} exp(−s_h (i − j)) (q_i · k_j) v_j``, no ``1/√d`` and no denominator; z is then divided by its
root mean square over all heads' values together (`norm`), as the released models do before they gate and project it.

Slopes: ``s_h = 2^(−8 (h + 1) / H)`` (ALiBi's; for H no power of two filled up from the next one's) times the layer's
factor ``1 − l / (L − 1) + 10⁻⁵``; with ``slopes="layered"`` those of flash-linear-attention, ``(8 / H)(1 − l / L) h``,
where head 0 never forgets; with ``"minimax"`` those of MiniMax in transformers, ``2^(−8 (h + 1) / H)`` for every H
times ``1 − l / (L − 1 + 10⁻⁵) + 10⁻⁵``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.attention import gpu_kernels
from workbench.attention.call import Call
from workbench.attention.layer import State
from workbench.attention.operator import Operator
from workbench.attention.primitives import recurrence
from workbench.attention.primitives.visible import causal, positions, without_padding
from workbench.attention.settings import Setting


def alibi_slopes(n_heads: int) -> list[float]:
    """``2^(−8 (h + 1) / H)``; for other H those of the power of two below and every second one of that above."""
    power = 2 ** int(math.log2(n_heads))
    slopes = [2 ** (-8 * (h + 1) / power) for h in range(power)]
    return slopes if power == n_heads else slopes + alibi_slopes(2 * power)[::2][: n_heads - power]


def slopes(n_heads: int, call: Call, like: Tensor) -> Tensor:
    """Each head's rate of forgetting, ``[head]``."""
    layer, layers = call.layer, call.n_layers
    if call["slopes"] == "layered":
        values = [8 / n_heads * (1 - layer / layers) * h for h in range(n_heads)]
    else:
        minimax = call["slopes"] == "minimax"
        base = [2 ** (-8 * (h + 1) / n_heads) for h in range(n_heads)] if minimax else alibi_slopes(n_heads)
        span = layers - 1 + (1e-5 if minimax else 0)
        factor = 1 - layer / span + 1e-5 if layers > 1 and call["layer_factor"] else 1.0
        values = [slope * factor for slope in base]
    return torch.tensor(values, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``A[i, j] = exp(−s (i − j)) q_i · k_j``."""
    dest, src = q.shape[2], k.shape[2]
    destination, source = positions(dest, src, q.device)
    gap = (destination - source).clamp(min=0)
    kind = recurrence.exact(q)
    decay = torch.exp(-slopes(q.shape[1], call, q)[:, None, None] * gap)
    weights = q.to(kind) @ without_padding(k, call).to(kind).mT
    return (weights * decay * causal(dest, src, q.device)).to(q.dtype)


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """In chunks."""
    return recurrence.chunked(q, without_padding(k, call), v, slopes(q.shape[1], call, q))


def kernel(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """By flash-linear-attention."""
    return gpu_kernels.decayed_linear(q, without_padding(k, call), v, slopes(q.shape[1], call, q))


def advance(k: Tensor, v: Tensor, call: Call, state: State | None) -> State:
    """``S ← exp(−s) S + k vᵀ``."""
    before = None if state is None else state[0]
    return (recurrence.advance(without_padding(k, call), v, slopes(k.shape[1], call, k), before),)


def resume(q: Tensor, k: Tensor, v: Tensor, state: State, call: Call) -> Tensor:
    """From the state before."""
    return recurrence.chunked(q, without_padding(k, call), v, slopes(q.shape[1], call, q), state[0])


def finish(z: Tensor, call: Call) -> Tensor:
    """``z / √(mean z² + 10⁻⁶)`` over the values of all heads together (SimpleRMSNorm)."""
    if not call["norm"]:
        return z
    wide = z.to(recurrence.exact(z))
    square = torch.linalg.vector_norm(wide, dim=(1, 3), keepdim=True).square() / (z.shape[1] * z.shape[3])
    return (wide * torch.rsqrt(square + 1e-6)).to(z.dtype)


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """The state after the last position, ``[batch, head, d_head, d_value]``, and each head's slope."""
    return {"state": advance(k, v, call, None)[0], "slopes": slopes(q.shape[1], call, q)}


operator = Operator(
    name="lightning",
    version=1,
    source="Qin et al. 2024, arXiv 2401.04658; code OpenNLPLab/lightning-attention",
    status="as published",
    settings={
        "norm": Setting(True, "flag", "divide z by its root mean square over all heads"),
        "slopes": Setting("alibi", "word", "how fast heads forget", choices=("alibi", "layered", "minimax")),
        "layer_factor": Setting(True, "flag", "forget less in later layers, as the released models do"),
    },
    causal="token",
    row_stochastic=False,
    linear_in_v=lambda settings: not settings["norm"],
    heads_independent=lambda settings: not settings["norm"],
    resumes="state",
    form="decayed linear",
    records=("state", "slopes"),
    matrix=matrix,
    efficient=efficient,
    kernel=gpu_kernels.Kernel("fla", kernel),
    advance=advance,
    resume=resume,
    finish=finish,
    record=record,
    check_length=lambda _: recurrence.CHUNK + 8,
)
