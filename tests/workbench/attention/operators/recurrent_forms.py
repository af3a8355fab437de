"""What the tests of linear and recurrent operators share: the reference's input, and their forms against each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.operator import BoundOperator

Inputs = tuple[Tensor, Tensor, Tensor]
#: Lengths that no chunk of 64 divides, and one that it does.
LENGTHS = (1, 5, 64, 150)


def reference_input(heads: int = 2, length: int = 8, width: int = 4) -> Inputs:
    """``q = sin(0.9 n + 0.1)``, ``k = sin(1.7 n + 0.5)``, ``v = cos(0.6 n)`` in row-major order, float64."""
    n = torch.arange(heads * length * width, dtype=torch.float64).reshape(1, heads, length, width)
    return torch.sin(0.9 * n + 0.1), torch.sin(1.7 * n + 0.5), torch.cos(0.6 * n)


def random_input(length: int, d_head: int = 8, d_value: int = 6, seed: int = 0) -> Inputs:
    """q, k and v of two rows and three heads, float64."""
    generator = torch.Generator().manual_seed(seed)
    widths = (d_head, d_head, d_value)
    q, k, v = (torch.randn(2, 3, length, width, generator=generator, dtype=torch.float64) for width in widths)
    return q, k, v


def from_position(start: int, inputs: Inputs) -> Inputs:
    """The positions from there on."""
    q, k, v = (x[:, :, start:] for x in inputs)
    return q, k, v


def rounded(x: Tensor) -> list[float]:
    """As the reference prints them."""
    return [round(float(value), 6) for value in x.flatten()]


def distance(result: Tensor, oracle: Tensor) -> float:
    """The largest difference over the largest entry: what float32 inside an oracle allows is some 10⁻⁷ of that."""
    assert result.shape == oracle.shape
    return float((result.double() - oracle.double()).abs().max() / oracle.double().abs().max())


def check_forms(bound: BoundOperator, call_of: Callable[[int], Call]) -> None:
    """z by the efficient form and by the matrix, in values and gradients and both precisions; the last rows alone; from
    a state, and a state in pieces."""
    for length in LENGTHS:
        call = call_of(length)
        q, k, v = random_input(length)
        z = bound.z(q, k, v, call)
        torch.testing.assert_close(z, bound.explicit(q, k, v, call), rtol=1e-12, atol=1e-12)
        for fast, slow in zip(_slopes(bound.z, q, k, v, call), _slopes(bound.explicit, q, k, v, call), strict=True):
            torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
        single = replace(call, gates={n: g.float() for n, g in call.gates.items()})
        single = replace(single, data={n: x.float() for n, x in call.data.items()})
        by_kernel, by_matrix = (form(q.float(), k.float(), v.float(), single) for form in (bound.z, bound.explicit))
        assert by_kernel.dtype == by_matrix.dtype == torch.float32
        scale = float(z.abs().max())
        torch.testing.assert_close(by_kernel.double(), z, rtol=1e-4, atol=1e-5 * max(scale, 1))
        torch.testing.assert_close(by_matrix.double(), z, rtol=1e-4, atol=1e-5 * max(scale, 1))
        for dest in {1, length // 2, length - 1} - {0}:
            rows = q[:, :, length - dest :]
            torch.testing.assert_close(bound.z(rows, k, v, call), z[:, :, length - dest :], rtol=1e-11, atol=1e-12)
            last = bound.explicit(rows, k, v, call)
            torch.testing.assert_close(last, z[:, :, length - dest :], rtol=1e-11, atol=1e-12)
        if bound.operator.resumes == "state" and length > 1:
            _check_states(bound, q, k, v, call, z)


def _check_states(bound: BoundOperator, q: Tensor, k: Tensor, v: Tensor, call: Call, z: Tensor) -> None:
    length = q.shape[2]
    whole, state, start = bound.advance(k, v, call), None, 0
    for stop in (*range(3, length, 31), length - 1, length):
        if stop > start:
            state = bound.advance(k[:, :, start:stop], v[:, :, start:stop], call.positions(start, stop), state)
            if stop < length:
                rest = bound.z(*from_position(stop, (q, k, v)), call.positions(stop), state)
                torch.testing.assert_close(rest, z[:, :, stop:], rtol=1e-11, atol=1e-12)
            start = stop
    assert state is not None
    for part, entire in zip(state, whole, strict=True):
        torch.testing.assert_close(part, entire, rtol=1e-11, atol=1e-12)
    middle = length // 2  # both rows go on from the first one's state
    shared = tuple(part[:1] for part in bound.advance(k[:, :, :middle], v[:, :, :middle], call.positions(0, middle)))
    rest, later = from_position(middle, (q, k, v)), call.positions(middle)
    torch.testing.assert_close(bound.z(*rest, later, shared)[0], z[0, :, middle:], rtol=1e-11, atol=1e-12)
    copied = tuple(part.expand(2, *part.shape[1:]) for part in shared)
    torch.testing.assert_close(bound.z(*rest, later, shared), bound.z(*rest, later, copied), rtol=1e-11, atol=1e-12)
    for part, entire in zip(
        bound.advance(rest[1], rest[2], later, shared), bound.advance(rest[1], rest[2], later, copied), strict=True
    ):
        torch.testing.assert_close(part, entire, rtol=1e-11, atol=1e-12)


def _slopes(form: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, call: Call) -> tuple[Tensor, ...]:
    """Gradients of a fixed sum of z with respect to q, k, v and the gates."""
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    gates = {name: gate.clone().requires_grad_() for name, gate in call.gates.items()}
    z = form(*leaves, replace(call, gates=gates))
    return torch.autograd.grad((z * torch.sin(torch.arange(z.numel()).view(z.shape))).sum(), [*leaves, *gates.values()])
