"""Linear attention against its printed numbers, sums written out, and flash-linear-attention."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.oracle.unpacked import FLA_CORE
from tests.workbench.attention.operators.recurrent_forms import (
    check_forms,
    distance,
    random_input,
    reference_input,
    rounded,
)
from workbench.attention.operator import operator

LINEAR = operator("linear")


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("feature", ["elu", "relu"])
@pytest.mark.parametrize("normalised", [True, False])
def test_forms_agree(feature: str, normalised: bool, causal: bool) -> None:
    bound = operator("linear", feature=feature, normalised=normalised)
    check_forms(bound, lambda _: bound.call(causal=causal))


def test_printed_numbers() -> None:
    q, k, v = reference_input()
    z = LINEAR.z(q, k, v, LINEAR.call())
    assert rounded(z.sum()) == [2.476597]
    assert rounded(z[0, 0, 7]) == [0.011586, 0.02201, 0.024746, 0.018837]
    weights = [0.126814, 0.124231, 0.121459, 0.120379, 0.12173, 0.125763, 0.128764, 0.13086]
    assert rounded(LINEAR.pattern(q, k, LINEAR.call())[0, 0, 7]) == weights
    assert rounded(LINEAR.z(q, k, v, LINEAR.call(causal=False)).sum()) == [1.240377]


def test_printed_numbers_of_relu() -> None:
    """The printed sum is reproduced; the printed first row is the causal one of elu + 1."""
    q, k, v = reference_input()
    relu = operator("linear", feature="relu")
    z = relu.z(q, k, v, relu.call(causal=False))
    assert rounded(z.sum()) == [2.62266]
    assert rounded(z[0, 0, 0]) == [0.006657, 0.009247, 0.008607, 0.004961]


@pytest.mark.parametrize("causal", [True, False])
def test_written_out(causal: bool) -> None:
    q, k, v = random_input(11)
    z = torch.zeros_like(v)
    for i in range(11):
        numerator, denominator = 0, 0
        for j in range(i + 1 if causal else 11):
            weight = ((F.elu(q[:, :, i]) + 1) * (F.elu(k[:, :, j]) + 1)).sum(-1, keepdim=True)
            numerator, denominator = numerator + weight * v[:, :, j], denominator + weight
        z[:, :, i] = numerator / denominator
    torch.testing.assert_close(LINEAR.z(q, k, v, LINEAR.call(causal=causal)), z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("feature", ["elu", "relu"])
def test_weights_sum_to_one_and_the_last_row_sees_everything(feature: str) -> None:
    q, k, v = random_input(70)
    bound = operator("linear", feature=feature)
    ones = torch.ones_like(v)
    causal, full = (bound.z(q, k, ones, bound.call(causal=causal)) for causal in (True, False))
    sees = bound.record(q, k, v, bound.call())["denominator"] > 0
    torch.testing.assert_close(causal[sees], ones[sees])
    torch.testing.assert_close(full, ones)
    last = [bound.z(q, k, v, bound.call(causal=causal))[:, :, -1] for causal in (True, False)]
    torch.testing.assert_close(*last)


def test_a_query_without_a_positive_feature_in_common_is_zero() -> None:
    q, k, v = reference_input()
    relu = operator("linear", feature="relu")
    for call, dead in ((relu.call(), 2), (relu.call(causal=False), 0)):
        record = relu.record(q, k, v, call)
        assert int((record["denominator"] == 0).sum()) == dead
        assert float(record["dead"].sum()) * 8 == dead
        rows = record["denominator"] == 0
        assert not relu.z(q, k, v, call)[rows].any() and not relu.pattern(q, k, call)[rows].any()
    q[:, :, 5] = -q[:, :, 5].abs()
    record = relu.record(q, k, v, relu.call(causal=False))
    torch.testing.assert_close(record["dead"], torch.full((1, 2), 1 / 8))
    assert not relu.z(q, k, v, relu.call(causal=False))[:, :, 5].any()
    half = torch.tensor([[False] * 4 + [True] * 4])
    torch.testing.assert_close(
        relu.record(q, k, v, relu.call(causal=False, padding=half))["dead"], torch.full((1, 2), 1 / 4)
    )


def test_no_gradient_is_lost_at_a_dead_query() -> None:
    q, k, v = random_input(9)
    q[:, :, 4] = -q[:, :, 4].abs()
    leaves = q.requires_grad_(), k.requires_grad_(), v.requires_grad_()
    relu = operator("linear", feature="relu")
    for form in (relu.z, relu.explicit):
        for slope in torch.autograd.grad(form(*leaves, relu.call()).square().sum(), leaves):
            assert slope.isfinite().all() and slope.any()


def test_heads_of_one_channel_are_ratios() -> None:
    q, k, v = random_input(12, d_head=1, d_value=1)
    relu = operator("linear", feature="relu")
    weights = F.relu(k).expand(-1, -1, 12, 1)
    ratio = (weights * v).sum(2, keepdim=True) / weights.sum(2, keepdim=True)
    torch.testing.assert_close(relu.z(q, k, v, relu.call(causal=False)), ratio * (q > 0))


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("length", [100, 128])
def test_flash_linear_attention(normalised: bool, length: int) -> None:
    naive = FLA_CORE.file("fla/ops/linear_attn/naive.py")
    bound = operator("linear", normalised=normalised)
    q, k, v = random_input(length)
    inputs = [x.transpose(1, 2) for x in (F.elu(q) + 1, F.elu(k) + 1, v)]
    z, state = naive.naive_recurrent_linear_attn(*inputs, scale=1.0, output_final_state=True, normalize=normalised)
    own, sums = bound.z(q, k, v, bound.call()), bound.advance(k, v, bound.call())
    assert distance(own, z.transpose(1, 2)) < 2e-6
    assert distance(sums[0], state[0] if normalised else state) < 2e-6
    if normalised:
        assert distance(sums[1], state[1][:, 0]) < 2e-6
    if length == 128:
        chunked = naive.naive_chunk_linear_attn(*inputs, scale=1.0, normalize=normalised)
        assert distance(own, chunked.transpose(1, 2)) < 1e-10  # it stays in float64, and adds 1e-10 to denominators
