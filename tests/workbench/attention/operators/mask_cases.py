"""The reference's inputs, and what every operator that is made of a mask has to prove."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.operator import BoundOperator


def reference(heads: int, length: int, d: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """The reference's q, k and v: ``sin(.9n + .1)``, ``sin(1.7n + .5)``, ``cos(.6n)``."""
    n = torch.arange(heads * length * d, dtype=torch.float64)
    shape = (1, heads, length, d)
    q, k, v = (
        x.view(shape).to(dtype) for x in (torch.sin(0.9 * n + 0.1), torch.sin(1.7 * n + 0.5), torch.cos(0.6 * n))
    )
    return q, k, v


def sines(shape: Sequence[int], rate: float) -> Tensor:
    """``sin(rate · n)`` for n from 1."""
    count = int(torch.Size(shape).numel())
    return torch.sin(rate * torch.arange(1, count + 1, dtype=torch.float64)).view(*shape)


def random(
    batch: int, heads: int, length: int, d: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Others, whose rows differ."""
    generator = torch.Generator().manual_seed(length)
    q, k, v = (torch.randn(batch, heads, length, d, generator=generator, dtype=dtype) for _ in range(3))
    return q, k, v


def close(one: Tensor, other: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def proof(
    bound: BoundOperator,
    lengths: Sequence[int],
    *,
    causal: Sequence[bool] = (True, False),
    values: Callable[[int], dict[str, Any]] = lambda length: {},
    last_rows: bool = True,
    d: int = 8,
) -> None:
    """The efficient form is the matrix, in values and gradients, in both precisions; the last rows are those of the
    whole; a row that sees nothing is 0."""
    for length in lengths:
        q, k, v = random(2, 2, length, d)
        for is_causal in causal:
            call = bound.call(scale=d**-0.5, causal=is_causal, **values(length))
            expected, gradients = _with_gradients(bound.explicit, q, k, v, call)
            z, others = _with_gradients(bound.z, q, k, v, call)
            close(z, expected)
            close(others, gradients, 1e-10)
            close(bound.z(q.float(), k.float(), v.float(), call).double(), expected, 2e-5)
            padding = torch.ones(2, length, dtype=torch.bool)
            padding[1] = False
            padded = bound.call(scale=d**-0.5, causal=is_causal, padding=padding, **values(length))
            z = bound.z(q, k, v, padded)
            close(z, bound.explicit(q, k, v, padded))
            close(z[0], expected[0])
            assert z[1].count_nonzero() == 0
            for dest in {1, (length + 1) // 2} if last_rows else ():
                close(bound.z(q[:, :, -dest:], k, v, call), expected[:, :, -dest:])
                close(bound.explicit(q[:, :, -dest:], k, v, call), expected[:, :, -dest:])


def _with_gradients(form: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, call: Call) -> tuple[Tensor, Tensor]:
    inputs = [x.clone().requires_grad_() for x in (q, k, v)]
    z = form(*inputs, call)
    (z * v.cos()).sum().backward()
    return z.detach(), torch.stack([torch.zeros_like(x) if x.grad is None else x.grad for x in inputs])


def padding_changes_nothing(
    bound: BoundOperator,
    *,
    causal: bool = True,
    values: Callable[[int], dict[str, Any]] = lambda length: {},
    d: int = 8,
) -> None:
    """What holds something has the same z between padding, left and right."""
    q, k, v = random(1, 2, 11, d)
    expected = bound.z(q, k, v, bound.call(scale=d**-0.5, causal=causal, **values(11)))
    for left in (0, 2, 5):
        right = 5 - left
        wider = [torch.nn.functional.pad(x, (0, 0, left, right), value=7.0) for x in (q, k, v)]
        padding = torch.zeros(1, 16, dtype=torch.bool)
        padding[:, left : left + 11] = True
        call = bound.call(scale=d**-0.5, causal=causal, padding=padding, **values(16))
        close(bound.z(wider[0], wider[1], wider[2], call)[:, :, left : left + 11], expected)
        close(bound.explicit(wider[0], wider[1], wider[2], call)[:, :, left : left + 11], expected)
