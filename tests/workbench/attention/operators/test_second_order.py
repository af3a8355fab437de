"""Second order: the reference's numbers, both normalisers, chunks, and Based's naive code."""

import pytest
import torch

from tests.oracle.unpacked import FLA_CORE
from tests.workbench.attention.operators.mask_cases import close, padding_changes_nothing, proof, random, reference
from workbench.attention.operator import operator
from workbench.attention.operators import second_order

JOINT, PRINTED = operator("second-order"), operator("second-order", form="printed")


def test_the_references_numbers():
    q, k, v = reference(2, 8, 4)
    z = JOINT.z(q, k, v, JOINT.call(scale=0.5))
    assert z.sum().item() == pytest.approx(2.563777, abs=1e-6)
    close(z[0, 0, 7], torch.tensor([0.005165, 0.028969, 0.042653, 0.041438], dtype=torch.float64), 1e-5)
    softmax = operator("softmax")
    gap = (z - softmax.z(q, k, v, softmax.call(scale=0.5))).abs().max()
    assert gap.item() == pytest.approx(0.0117, abs=1e-4)
    assert PRINTED.z(q, k, v, PRINTED.call(scale=0.5)).sum().item() == pytest.approx(-36.886686, abs=1e-5)


def test_both_forms_agree():
    """45 products: longer runs go in chunks of 128."""
    proof(JOINT, [1, 2, 9, 45, 46, 131, 257])
    padding_changes_nothing(JOINT)
    padding_changes_nothing(JOINT, causal=False)
    padding_changes_nothing(JOINT, d=2)  # 6 products: in chunks
    padding_changes_nothing(JOINT, causal=False, d=2)


@pytest.mark.parametrize("causal", [True, False])
def test_both_printed_forms_agree(causal):
    q, k, v = random(2, 2, 140, 4)
    k = k + 3 * q.mean()  # a first-order sum near 0 would magnify rounding
    q, k = q.abs(), k.abs()
    call = PRINTED.call(scale=0.5, causal=causal)
    close(PRINTED.z(q, k, v, call), PRINTED.explicit(q, k, v, call))
    close(PRINTED.pattern(q, k, call).sum(-1), torch.full((2, 2, 140), 3.0, dtype=torch.float64))
    assert not PRINTED.declared("row_stochastic")


def test_weights_are_at_least_a_half_and_the_orders_add_up():
    q, k, _ = random(1, 1, 30, 6)
    product = q @ k.mT
    orders = [one @ other.mT for one, other in zip(second_order.features(q), second_order.features(k), strict=True)]
    for order, expected in zip(orders, (torch.ones_like(product), product, product**2 / 2), strict=True):
        close(order, expected)
    assert torch.stack(orders).sum(0).min() >= 0.5 - 1e-12


@pytest.mark.parametrize("length", [5, 200])
def test_equal_scores_weigh_the_same(length):
    q, k, v = random(1, 2, length, 4)
    expected = v.cumsum(2) / torch.arange(1, length + 1)[:, None]
    close(JOINT.z(0 * q, k, v, JOINT.call()), expected)


@pytest.mark.parametrize("length", [20, 80])
def test_against_based(length):
    """Their code has float32 inside, and scales q by ``d^-1/2``."""
    naive = FLA_CORE.file("fla/ops/based/naive.py")
    q, k, v = random(2, 3, length, 8, torch.float32)
    expected = naive.naive_parallel_based(q, k, v)
    close(JOINT.z(q, k, v, JOINT.call(scale=8**-0.5)), expected, 1e-5)
