"""Fixed queries and keys: one pattern whatever the input; the static form is attention of other projections."""

import pytest
import torch
from torch.nn import functional as F

from tests.workbench.attention.operators.mask_cases import close, padding_changes_nothing, proof, random
from workbench.attention.operator import operator
from workbench.errors import UsageError

FIXED, STATIC = operator("fixed-qk", length=40), operator("fixed-qk", form="static")


def stream(length: int) -> dict:
    q, k, _ = random(1, 2, 40, 6)
    return {"data": {"q": q[0], "k": k[0]}}


def embeddings(length: int) -> dict:
    q, k, _ = random(2, 2, length + 50, 6)
    return {"gates": {"q": q[:, :, :length].transpose(1, 2), "k": k[:, :, :length].transpose(1, 2)}}


def test_both_forms_agree():
    proof(FIXED, [1, 2, 9, 40], values=stream)
    proof(STATIC, [1, 2, 9, 70], values=embeddings)
    padding_changes_nothing(FIXED, values=stream)
    padding_changes_nothing(FIXED, causal=False, values=stream)


def test_the_pattern_is_the_same_for_every_input_of_a_length():
    one, other = random(2, 2, 9, 8), random(2, 2, 9, 8)
    call = FIXED.call(scale=0.4, **stream(9))
    pattern = FIXED.pattern(one[0], one[1], call)
    assert torch.equal(pattern, FIXED.pattern(3 * other[1], other[0] - 1, call))
    assert torch.equal(pattern[0], pattern[1])
    shorter = FIXED.pattern(one[0][:, :, :5], one[1][:, :, :5], call)
    close(shorter, pattern[:, :, :5, :5])


def test_it_is_attention_of_the_second_streams_queries_and_keys():
    q, k, v = random(2, 2, 9, 8)
    data = stream(9)["data"]
    queries, keys = (data[name][None, :, :9].expand(2, -1, -1, -1) for name in "qk")
    expected = F.scaled_dot_product_attention(queries, keys, v, is_causal=True, scale=0.4)
    close(FIXED.z(q, k, v, FIXED.call(scale=0.4, **stream(9))), expected)


def test_the_static_form_is_plain_attention_where_the_embeddings_are_the_input():
    """As in the first layer, under the same norm."""
    q, k, v = random(2, 2, 9, 8)
    call = STATIC.call(scale=0.4, gates={"q": q.transpose(1, 2), "k": k.transpose(1, 2)})
    close(STATIC.z(0 * q, 0 * k, v, call), F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.4))


def test_what_each_form_needs():
    assert FIXED.declared("needs") == ("second stream",)
    assert operator("fixed-qk", form="sequence").declared("needs") == ("second stream",)
    assert STATIC.declared("needs") == ("token embeddings",)
    q, k, v = random(1, 2, 41, 8)
    with pytest.raises(UsageError, match="fixed-qk: 41 positions, and it is made for 40"):
        FIXED.z(q, k, v, FIXED.call(**stream(41)))
    with pytest.raises(UsageError, match=r"queries of the second stream .* data\['q'\]"):
        FIXED.z(q, k, v, FIXED.call())
    with pytest.raises(UsageError, match=r"queries of the token embeddings .* gates\['q'\]"):
        STATIC.z(q, k, v, STATIC.call())
