"""Masked reference: the reference's numbers, and what lambda means."""

import pytest
import torch
from torch.nn import functional as F

from tests.workbench.attention.operators.mask_cases import close, random, reference
from workbench.attention.operator import operator
from workbench.errors import UsageError

MASK = torch.tensor([1, 1, 0, 0, 1, 0])


def test_the_references_numbers():
    bound = operator("masked-reference")
    q, k, v = reference(1, 6, 4)
    call = bound.call(scale=0.5, data={"mask": MASK})
    z = bound.z(q, k[:, :, :3], v[:, :, :3], call)
    close(q + z, q + bound.explicit(q, k[:, :, :3], v[:, :, :3], call))
    expected = torch.tensor([0.27992, 1.026682, 1.071936, 0.357161], dtype=torch.float64)
    close((q + z)[0, 0, 0], expected, 1e-5)
    assert (q + z).sum().item() == pytest.approx(4.660399, abs=1e-6)


@pytest.mark.parametrize("outside", [1, 0, 0.25])
def test_the_weight_outside_the_region(outside):
    bound = operator("masked-reference", outside=outside)
    q, k, v = random(2, 2, 6, 8)
    keys, values = k[:, :, :4], v[:, :, :4]
    call = bound.call(scale=0.3, data={"mask": torch.stack([MASK, 1 - MASK])})
    plain = F.scaled_dot_product_attention(q, keys, values, scale=0.3)
    z = bound.z(q, keys, values, call)
    inside = torch.stack([MASK, 1 - MASK]).bool()[:, None, :, None]
    close(z, torch.where(inside, plain, outside * plain))
    close(bound.explicit(q, keys, values, call), z)
    close(bound.z(q[:, :, 2:], keys, values, call), z[:, :, 2:])
    assert bound.declared("row_stochastic") == (outside == 1)


def test_padding_of_the_reference_is_not_read():
    bound = operator("masked-reference")
    q, k, v = random(2, 2, 6, 8)
    padding = torch.tensor([[True, True, True, True, False, False], [False] * 6])
    call = bound.call(data={"mask": MASK}, padding=padding)
    z = bound.z(q, k, v, call)
    close(z, bound.explicit(q, k, v, call))
    close(z[:1], bound.z(q[:1], k[:1, :, :4], v[:1, :, :4], bound.call(data={"mask": MASK})))
    assert z[1].count_nonzero() == 0


def test_a_mask_is_needed():
    bound = operator("masked-reference")
    q, k, v = random(1, 1, 7, 4)
    with pytest.raises(UsageError, match=r"which positions the region covers.*data\['mask'\]"):
        bound.z(q, k, v, bound.call())
    with pytest.raises(UsageError, match=r"data\['mask'\] is for 6 positions, and there are 7 queries"):
        bound.z(q, k, v, bound.call(data={"mask": MASK}))
    assert bound.operator.role == "pair"
