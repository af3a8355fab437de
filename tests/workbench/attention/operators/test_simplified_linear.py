"""Simplified linear attention: linear attention plus a convolution of the values written out."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from tests.workbench.attention.operators.recurrent_forms import Inputs, random_input
from workbench.attention.call import Call
from workbench.attention.layer import LayerShape
from workbench.attention.operator import BoundOperator, operator
from workbench.errors import UsageError

GRIDS = {(9,): 3, (4, 5): (3, 5), (2, 3, 4): (1, 3, 3)}


def case(grid: tuple[int, ...], before: int) -> tuple[BoundOperator, Inputs, Call]:
    kernel = GRIDS[grid]
    bound = operator("simplified-linear", kernel=kernel if isinstance(kernel, tuple) else (kernel,))
    length = int(torch.tensor(grid).prod()) + before
    size = bound.settings["kernel"]
    weight = torch.randn(6, *size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    call = bound.call(causal=False, grid=grid, before=before, data={"kernel": weight})
    return bound, random_input(length), call


def written_out(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """z, by loops over positions of the grid and over offsets."""
    linear = operator("linear", feature="relu")
    z = linear.z(q, k, v, linear.call(causal=False))
    weight, grid = call.data["kernel"], call.grid
    strides = [int(torch.tensor((1, *grid[axis + 1 :])).prod()) for axis in range(len(grid))]
    for place in product(*map(range, grid)):
        i = call.before + sum(p * s for p, s in zip(place, strides, strict=True))
        for index in product(*map(range, weight.shape[1:])):
            other = [p + o - n // 2 for p, o, n in zip(place, index, weight.shape[1:], strict=True)]
            if all(0 <= p < n for p, n in zip(other, grid, strict=True)):
                j = call.before + sum(p * s for p, s in zip(other, strides, strict=True))
                z[:, :, i] += weight[(slice(None), *index)] * v[:, :, j]
    return z


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("grid", GRIDS)
def test_both_forms_are_the_sums(grid: tuple[int, ...], before: int) -> None:
    bound, (q, k, v), call = case(grid, before)
    expected = written_out(q, k, v, call)
    torch.testing.assert_close(bound.z(q, k, v, call), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(bound.explicit(q, k, v, call), expected, rtol=1e-12, atol=1e-12)
    for dest in (1, 3):
        rows = q[:, :, -dest:]
        torch.testing.assert_close(bound.z(rows, k, v, call), expected[:, :, -dest:])
        torch.testing.assert_close(bound.explicit(rows, k, v, call), expected[:, :, -dest:])


def test_gradients() -> None:
    bound, inputs, call = case((4, 5), 1)
    leaves = [x.requires_grad_() for x in (*inputs, call.data["kernel"])]
    slopes = [torch.autograd.grad(form(*inputs, call).sin().sum(), leaves) for form in (bound.z, bound.explicit)]
    for fast, slow in zip(*slopes, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-11)


def test_the_matrix_is_one_a_channel() -> None:
    bound, (q, k, v), call = case((4, 5), 1)
    pattern = bound.pattern(q, k, call)
    assert pattern.shape == (2, 3, 6, 21, 21)
    linear = bound.record(q, k, v, call)["linear_pattern"]
    near = pattern - linear[:, :, None]
    assert not near[..., 0, :].any() and not near[..., :, 0].any()  # the one ahead of the grid
    torch.testing.assert_close(near[0, 0], near[1, 2])  # heads share the kernel
    torch.testing.assert_close(near[0, 0, :, 1 + 7, 1 + 7], call.data["kernel"][:, 1, 2])
    torch.testing.assert_close(near[0, 0, :, 1 + 7, 1 + 13], call.data["kernel"][:, 2, 3])  # one down, one right


def test_it_begins_as_linear_attention() -> None:
    q, k, v = random_input(21)
    bound, linear = operator("simplified-linear"), operator("linear", feature="relu")
    assert bound.operator.module is not None
    shape = LayerShape(layer=0, n_layers=1, n_heads=3, n_kv_heads=3, d_head=8, d_value=6, d_model=10)
    data = bound.operator.module(shape, bound.settings).data()
    z = bound.z(q, k, v, bound.call(causal=False, grid=(4, 5), before=1, data=data))
    torch.testing.assert_close(z, linear.z(q, k, v, linear.call(causal=False)))


def test_refusals() -> None:
    bound, (q, k, v), call = case((4, 5), 0)
    with pytest.raises(UsageError, match=r"grid=\(\): expected 2 axes"):
        bound.z(q, k, v, bound.call(causal=False, data=dict(call.data)))
    with pytest.raises(UsageError, match="expected 20 positions"):
        bound.z(q, k, v, bound.call(causal=False, grid=(4, 4), data=dict(call.data)))
    with pytest.raises(UsageError, match="kernel"):
        bound.z(q, k, v, bound.call(causal=False, grid=(4, 5)))
    for kernel in (4, (3, 2), (3, 3, 3, 3)):
        with pytest.raises(UsageError, match="odd"):
            operator("simplified-linear", kernel=kernel)
