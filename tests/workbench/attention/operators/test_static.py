"""Static: a table of logits."""

import pytest
import torch

from tests.workbench.attention.operators.mask_cases import close, padding_changes_nothing, proof, random, sines
from workbench.attention.layer import LayerShape
from workbench.attention.operator import operator
from workbench.attention.operators import static
from workbench.errors import UsageError

STATIC = operator("static", length=16)
SHAPE = LayerShape(layer=0, n_layers=1, n_heads=2, n_kv_heads=1, d_head=8, d_value=8, d_model=16)


def table(length: int) -> dict:
    return {"data": {"logits": 3 * sines((2, 16, 16), 1.3)}}


def test_both_forms_agree():
    proof(STATIC, [1, 2, 7, 16], values=table)
    padding_changes_nothing(STATIC, values=table)
    padding_changes_nothing(STATIC, causal=False, values=table)


def test_it_starts_as_uniform_and_can_be_trained():
    module = static.module(SHAPE, STATIC.settings)
    q, k, v = random(2, 2, 9, 8)
    call = STATIC.call(data=module.data())
    uniform = operator("uniform")
    close(STATIC.z(q, k, v, call), uniform.z(q, k, v, uniform.call()))
    ((STATIC.z(q, k, v, call) - v.roll(1, 2)) ** 2).sum().backward()
    gradient = module.data()["logits"].grad
    assert gradient is not None
    assert gradient[:, :9, :9].tril().count_nonzero() > 0
    assert gradient.triu(1).count_nonzero() == 0 and gradient[:, 9:].count_nonzero() == 0


def test_it_does_not_depend_on_the_input_and_is_the_tables_softmax():
    q, k, _ = random(1, 2, 6, 8)
    call = STATIC.call(**table(6))
    pattern = STATIC.pattern(q, k, call)
    assert torch.equal(pattern, STATIC.pattern(q + 1, k * 2, call))
    logits = call.data["logits"][1, 4, :5]
    close(pattern[0, 1, 4, :5], logits.exp() / logits.exp().sum())


def test_longer_inputs_and_no_table_are_refused():
    q, k, v = random(1, 2, 17, 8)
    with pytest.raises(UsageError, match=r"static: 17 positions, and it is made for 16\..*length=17"):
        STATIC.z(q, k, v, STATIC.call(**table(17)))
    with pytest.raises(UsageError, match=r"static needs a table of logits .* data\['logits'\]"):
        STATIC.z(q[:, :, :4], k[:, :, :4], v[:, :, :4], STATIC.call())
