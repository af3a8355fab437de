"""Block-linear attention against its printed numbers, sums written out, and linear attention at both ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.workbench.attention.operators.recurrent_forms import check_forms, random_input, reference_input, rounded
from workbench.attention.operator import operator


@pytest.mark.parametrize("block", [1, 5, 24, 64, 100])
@pytest.mark.parametrize("rotary", ["none", "numerator"])
def test_forms_agree(block: int, rotary: str) -> None:
    bound = operator("block-linear", block=block, rotary=rotary, feature="elu")
    check_forms(bound, lambda _: bound.call(causal=False))


def test_forms_agree_with_relu() -> None:
    bound = operator("block-linear", block=7)
    check_forms(bound, lambda _: bound.call(causal=False))


def test_printed_numbers() -> None:
    """SANA-Video's form: rotated features in the numerator, blocks of positions 0 to 3 and 4 to 7, first head."""
    q, k, v = reference_input()
    bound = operator("block-linear", block=4, rotary="numerator")
    call = bound.call(causal=False)
    z = bound.z(q, k, v, call)
    assert rounded(z[0, 0, 0]) == [0.211423, 0.203406, 0.124334, 0.001828]
    assert rounded(z[0, 0, 7]) == [0.003826, 0.036704, 0.05676, 0.056988]
    assert rounded(z[0, 0].sum()) == [1.023716]
    assert rounded(bound.advance(k, v, call)[1][0, 0]) == [3.817092, 1.220615, 1.801185, 3.902406]
    one = operator("block-linear", block=8, rotary="numerator")
    pattern = one.pattern(q, k, one.call(causal=False))[0, 0]
    assert round(float(pattern[0].sum()), 5) == 1.06966
    assert round(float(pattern.min()), 3) == -0.232


def test_a_denominator_of_zero() -> None:
    """The released form divides such a numerator by 10⁻¹⁵; z is 0 instead, and both are recorded."""
    q, k, v = reference_input()
    bound = operator("block-linear", block=4, rotary="numerator")
    call = bound.call(causal=False)
    first = bound.advance(k[:, :, :4], v[:, :, :4], call.positions(0, 4))
    assert [round(float(n), 3) for n in first[1][0, 1]] == [0, 2.473, 2.099, 0]
    record = bound.record(q, k, v, call)
    dead = record["denominator"] == 0
    assert dead.nonzero().tolist() == [[0, 1, 0]]
    assert not bound.z(q, k, v, call)[dead].any() and not bound.pattern(q, k, call)[dead].any()
    assert record["dead"].tolist() == [[0, 0.125]]
    released = record["numerator"][0, 1, 0] / 1e-15
    assert f"{released.abs().max():.1e}" == "7.8e+11"
    alive = ~dead
    quotient = record["numerator"] / record["denominator"][..., None]
    torch.testing.assert_close(bound.z(q, k, v, call)[alive], quotient[alive])


@pytest.mark.parametrize("rotary", ["none", "numerator"])
@pytest.mark.parametrize("first", [0, 3])
def test_written_out(rotary: str, first: int) -> None:
    q, k, v = random_input(13)
    bound = operator("block-linear", block=5, feature="elu", rotary=rotary)
    z = torch.zeros_like(v)
    for i in range(13):
        numerator, denominator = 0, 0
        for j in range(13):
            if (first + j) // 5 <= (first + i) // 5:
                a, b = F.elu(q[:, :, i]) + 1, F.elu(k[:, :, j]) + 1
                denominator = denominator + (a * b).sum(-1, keepdim=True)
                if rotary == "numerator":
                    a, b = turned(a, first + i), turned(b, first + j)
                numerator = numerator + (a * b).sum(-1, keepdim=True) * v[:, :, j]
        z[:, :, i] = numerator / denominator
    call = replace(bound.call(causal=False), first=first)
    torch.testing.assert_close(bound.z(q, k, v, call), z, rtol=1e-11, atol=1e-12)


def test_both_ends_and_the_last_block() -> None:
    q, k, v = random_input(50)
    linear = operator("linear", feature="relu")
    causal, full = (linear.z(q, k, v, linear.call(causal=causal)) for causal in (True, False))
    for block, expected in ((1, causal), (50, full), (64, full)):
        bound = operator("block-linear", block=block)
        torch.testing.assert_close(bound.z(q, k, v, bound.call(causal=False)), expected)
    bound = operator("block-linear", block=15)
    torch.testing.assert_close(bound.z(q, k, v, bound.call(causal=False))[:, :, 45:], full[:, :, 45:])


@pytest.mark.parametrize("block", [4, 80])
def test_causal_across_blocks_alone(block: int) -> None:
    q, k, v = random_input(170)
    bound = operator("block-linear", block=block, feature="elu")
    call = bound.call(causal=False)
    z = bound.z(q, k, v, call)
    v[:, :, 161] += 1
    changed = (bound.z(q, k, v, call) != z).any(-1).all(0).all(0)
    assert changed.nonzero()[:, 0].tolist() == list(range(161 // block * block, 170))


def test_the_state_is_constant() -> None:
    _, k, v = random_input(400)
    bound = operator("block-linear")
    sizes = set()
    for length in (1, 63, 64, 65, 400):
        state = bound.advance(k[:, :, :length], v[:, :, :length], bound.call(causal=False))
        sizes.add(tuple(part.shape for part in state))
    assert sizes == {((2, 3, 8, 6), (2, 3, 8))}


def turned(x: Tensor, position: int) -> Tensor:
    """Adjacent pairs as complex numbers, turned."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    angles = torch.tensor([position * 10000 ** (-2 * i / x.shape[-1]) for i in range(x.shape[-1] // 2)], dtype=x.dtype)
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2).to(x.dtype)
