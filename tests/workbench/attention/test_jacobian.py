"""`influence` against the whole Jacobian that torch gives, and against the matrix where there is one."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from workbench.attention import operator as contract
from workbench.attention.call import Call
from workbench.attention.jacobian import influence
from workbench.attention.operator import operator
from workbench.attention.primitives import softmax_forms
from workbench.errors import UsageError


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


Q, K, V = random(2, 3, 5, 4), random(2, 3, 5, 4) + 0.1, random(2, 3, 5, 6)


@pytest.mark.parametrize("name", ["softmax", "sliding-window(window=2)", "lightning(norm=False)"])
@pytest.mark.parametrize("dest", [5, 2])
def test_of_a_linear_operator_it_is_the_matrix(name: str, dest: int) -> None:
    bound, q = operator(name), Q[:, :, -dest:]
    call = bound.call(scale=0.5)
    expected = bound.pattern(q, K, call).abs() * V.shape[-1] ** 0.5
    torch.testing.assert_close(influence(bound, q, K, V, call), expected, rtol=1e-12, atol=1e-12)


def squares(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    return softmax_forms.plain(q, k, v.square(), call) + v


SQUARES = replace(
    operator("softmax").operator, mask=None, efficient=squares, matrix_axis="none", linear_in_v=False
).with_settings()


@pytest.mark.parametrize("bound", [SQUARES, operator("lightning")], ids=["squares", "lightning"])
@pytest.mark.parametrize("of", ["v", "qkv"])
def test_it_is_the_norm_of_the_blocks_of_the_jacobian(bound: contract.BoundOperator, of: Literal["v", "qkv"]) -> None:
    """Of lightning with its norm each head changes the others, and a head's own block counts."""
    call = bound.call()
    result = influence(bound, Q, K, V, call, of=of)
    whole = torch.autograd.functional.jacobian(lambda q, k, v: bound.z(q, k, v, call), (Q, K, V))
    for b in range(2):
        for h in range(3):
            blocks = [part[b, h, :, :, b, h] for part in whole]  # [dest, d_value, src, d]
            sizes = torch.stack([block.square().sum((1, 3)) for block in (blocks if of == "qkv" else blocks[2:])]).sum(
                0
            )
            torch.testing.assert_close(result[b, h], sizes.sqrt(), rtol=1e-10, atol=1e-12)


def test_an_operation_that_torch_cannot_batch_gives_the_same() -> None:
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx, *slopes: Tensor) -> Tensor:
            assert slopes[0].sum().item() is not None  # no number under vmap
            return 2 * slopes[0]

    def by_function(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
        return Scaled.apply(softmax_forms.plain(q, k, v, call))

    bound = replace(SQUARES.operator, efficient=by_function).with_settings()
    plain = operator("softmax")
    torch.testing.assert_close(
        influence(bound, Q, K, V, bound.call()), 2 * influence(plain, Q, K, V, plain.call()), rtol=1e-12, atol=1e-12
    )


def test_more_rows_than_one_pass_gives() -> None:
    q, k, v = random(1, 2, 70, 4), random(1, 2, 70, 4), random(1, 2, 70, 8)
    bound = operator("softmax")
    expected = bound.pattern(q, k, bound.call()) * 8**0.5
    torch.testing.assert_close(influence(bound, q, k, v, bound.call()), expected, rtol=1e-12, atol=1e-12)


def test_another_name_of_inputs_is_refused() -> None:
    bound = operator("softmax")
    with pytest.raises(UsageError, match="of='k': expected 'v' or 'qkv'"):
        influence(bound, Q, K, V, bound.call(), of="k")  # pyright: ignore[reportArgumentType] - refused
