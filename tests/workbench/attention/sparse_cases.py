"""Inputs of the tests of sparse operators, and what all of them must do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.operator import BoundOperator
from workbench.attention.primitives import block_sparse


def waves(heads: int, length: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """The reference's shared input: ``q = sin(.9 n + .1)``, ``k = sin(1.7 n + .5)``, ``v = cos(.6 n)``."""
    n = torch.arange(heads * length * d, dtype=torch.float64).view(1, heads, length, d)
    return torch.sin(0.9 * n + 0.1), torch.sin(1.7 * n + 0.5), torch.cos(0.6 * n)


def sine(shape: tuple[int, ...], rate: float) -> Tensor:
    """``sin(rate · n)`` for n = 1 … in row-major order."""
    return torch.sin(rate * torch.arange(1, prod(shape) + 1, dtype=torch.float64)).view(shape)


Three = tuple[Tensor, Tensor, Tensor]


def random(
    length: int, *, batch: int = 2, heads: int = 4, d: int = 8, seed: int = 0, d_value: int | None = None
) -> Three:
    """q, k and v in float64, heads behind positions as projections give them."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, length, heads, width) for width in (d, d, d_value or d)]
    draws = (torch.randn(shape, generator=generator, dtype=torch.float64).transpose(1, 2) for shape in shapes)
    return each(lambda x: x, *draws)


def each(change: Callable[[Tensor], Tensor], *tensors: Tensor) -> Three:
    """The change of q, k and v."""
    q, k, v = map(change, tensors)
    return q, k, v


def dense(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool = False) -> Tensor:
    """Softmax attention, written out."""
    scores = scale * torch.einsum("bhid,bhjd->bhij", q, k)
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    return torch.einsum("bhij,bhjd->bhid", scores.softmax(-1), v)


def close(first: Tensor, second: Tensor, tolerance: float = 1e-12) -> None:
    assert first.shape == second.shape
    assert (first - second).abs().max() <= tolerance


def leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_()


def check_forms(bound: BoundOperator, q: Tensor, k: Tensor, v: Tensor, call: Call, monkeypatch) -> Tensor:
    """The efficient form, short and long, is the matrix's z, in float64 and float32, with its gradients; rows that see
    something sum to one."""
    pattern = bound.pattern(q, k, call)
    z = bound.apply(pattern, v, call)
    sums = pattern.sum(-1)
    assert ((sums - 1).abs() < 1e-12).logical_or(sums == 0).all()
    close(bound.z(q, k, v, call), z)
    weight = torch.cos(torch.arange(z.numel(), dtype=z.dtype)).view(z.shape)
    slopes = []
    forms: tuple[Callable[..., Tensor], ...] = bound.z, bound.explicit
    for form in forms:
        leaves = each(leaf, q, k, v)
        slopes.append(torch.autograd.grad((form(*leaves, call) * weight).sum(), leaves))
    for first, second in zip(*slopes, strict=True):
        close(first, second, 1e-11)
    with monkeypatch.context() as patch:
        patch.setattr(block_sparse, "SHORTEST", 0)
        close(bound.z(q, k, v, call), z)
        narrow = each(Tensor.float, q, k, v)
        data = {name: x.float() if x.is_floating_point() else x for name, x in call.data.items()}
        narrow_call = replace(call, data=data)
        close(bound.z(*narrow, narrow_call), bound.explicit(*narrow, narrow_call), 5e-6)
        half = bound.z(*each(Tensor.bfloat16, q, k, v), call)
        assert half.dtype == torch.bfloat16 and half.isfinite().all()
        leaves = each(leaf, q, k, v)
        gradients = torch.autograd.grad((bound.z(*leaves, call) * weight).sum(), leaves)
        for first, second in zip(gradients, slopes[1], strict=True):
            close(first, second, 1e-11)
    return z


def check_padding(bound: BoundOperator, q: Tensor, k: Tensor, v: Tensor, call: Call) -> None:
    """Padding on the left and on the right leaves the real positions' z, and padded rows are 0."""
    z, length = bound.z(q, k, v, call), q.shape[2]
    for left in (0, 3, 5):
        real = slice(left, left + length)
        padded = each(lambda x: torch.full((*x.shape[:2], length + 5, x.shape[3]), 7.0, dtype=x.dtype), q, k, v)
        for wide, x in zip(padded, (q, k, v), strict=True):
            wide[:, :, real] = x
        padding = torch.zeros(q.shape[0], length + 5, dtype=torch.bool)
        padding[:, real] = True
        wide_call = replace(call, padding=padding)
        close(bound.z(*padded, wide_call)[:, :, real], z)
        close(bound.explicit(*padded, wide_call)[:, :, real], z)
        assert (bound.pattern(padded[0], padded[1], wide_call)[..., ~padding[0]] == 0).all()
