"""Reversed attention: a worked example, and its sums."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.layer import LayerShape, OperatorModule
from workbench.attention.operator import operator
from workbench.errors import UsageError


def waves(shape: tuple[int, ...], a: float) -> Tensor:
    n = torch.arange(1, int(torch.tensor(shape).prod()) + 1, dtype=torch.float64)
    return torch.sin(a * n).view(shape)


#: Three tokens, two heads of two entries; the input has four.
Q, K, V = (waves((2, 3, 2), a)[None] for a in (1, 0.7, 0.4))
X = waves((3, 4), 1.3)[None]
SELECTOR = waves((2, 4), 0.3) / 2
SCALE = 2**-0.5


def example(temperature: float = 1, **settings: Any) -> Call:
    bound = operator("reversed", temperature=temperature, **settings)
    selector = torch.softmax(X @ SELECTOR.T / temperature, -1)
    message = torch.sigmoid(X @ waves((4,), 0.5) / 2)[..., None]
    return bound.call(scale=SCALE, causal=False, gates={"selector": selector, "message": message})


def close(value: Tensor, expected: Any) -> None:
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=6e-7)


def test_the_worked_example() -> None:
    bound, call = operator("reversed", temperature=1), example()
    a = bound.pattern(Q, K, call)
    recorded = bound.record(Q, K, V, call)
    close(recorded["selector"][0].T, [[0.370625, 0.629375], [0.401612, 0.598388], [0.538894, 0.461106]])
    close(recorded["message"][0], [0.426336, 0.563276, 0.63071])
    forward = (a / (recorded["selector"] * recorded["message"][:, None])[:, :, None])[0, 0].T
    close(forward, [[0.521529, 0.391052, 0.087419], [0.204344, 0.295818, 0.499838], [0.207732, 0.203623, 0.588645]])
    close(a[0, 0], [[0.082407, 0.046226, 0.070605], [0.06179, 0.066919, 0.069209], [0.013813, 0.113073, 0.200072]])
    dependency = recorded["dependency"][0]
    close(
        dependency,
        [[0.104803, 0.165842, 0.272028], [0.149526, 0.164425, 0.130158], [0.172007, 0.233009, 0.228524]],
    )
    close(dependency.sum(1), [0.542672, 0.444109, 0.63354])
    torch.testing.assert_close(dependency.sum(0), recorded["message"][0], rtol=1e-12, atol=0)
    z = bound.z(Q, K, V, call)[0]
    close(z[0], [[0.139376, 0.153013], [0.149365, 0.157964], [0.292692, 0.258075]])
    close(z[1], [[-0.237104, -0.292483], [-0.071758, -0.13963], [-0.027156, -0.128345]])
    others = dependency - torch.eye(3)
    assert others.argmax(0).tolist() == [2, 2, 0]  # each sender's parent: no tree, 0 and 2 are each other's


def test_a_low_temperature_selects_one_head() -> None:
    call = example(0.1)
    selector = operator("reversed").record(Q, K, V, call)["selector"][0].T
    close(selector, [[0.00499, 0.99501], [0.018208, 0.981792], [0.826195, 0.173805]])


def test_with_all_heads_and_whole_messages_it_is_the_mean_of_transposed_attention() -> None:
    """Against `softmax`, and in numbers."""
    bound, plain = operator("reversed", message=1), operator("softmax")
    dependency = bound.record(Q, K, V, bound.call(scale=SCALE, causal=False))["dependency"]
    close(
        dependency[0],
        [[0.302497, 0.279613, 0.450162], [0.359013, 0.292552, 0.206599], [0.33849, 0.427836, 0.343239]],
    )
    transposed = plain.pattern(Q, K, plain.call(scale=SCALE, causal=False)).mean(1).mT
    torch.testing.assert_close(dependency, transposed, rtol=1e-12, atol=1e-12)


def test_of_one_selected_head_the_dependency_is_its_transposed_pattern() -> None:
    bound, plain = operator("reversed"), operator("softmax")
    selector = torch.tensor([0.0, 1.0]).double().expand(1, 3, 2)
    gates = {"selector": selector, "message": torch.ones(1, 3, 1).double()}
    call = bound.call(scale=SCALE, causal=False, gates=gates)
    expected = plain.pattern(Q, K, plain.call(scale=SCALE, causal=False))[:, 1].mT
    torch.testing.assert_close(bound.record(Q, K, V, call)["dependency"], expected, rtol=1e-12, atol=1e-12)


def test_one_token_gets_its_own_message() -> None:
    call = example()
    one = call.positions(0, 1)
    z = operator("reversed").z(Q[:, :, :1], K[:, :, :1], V[:, :, :1], one)
    expected = (one.gates["selector"] * one.gates["message"]).mT[..., None] * V[:, :, :1]
    torch.testing.assert_close(z, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sender", ["query", "key"])
def test_in_a_causal_model_a_position_sends_to_later_ones(sender: str) -> None:
    bound = operator("reversed", sender=sender)
    call = bound.call(scale=SCALE, causal=True)
    a = bound.pattern(Q, K, call)
    assert not a.triu(1).any()
    torch.testing.assert_close(a.sum(-2), torch.full_like(a.sum(-2), 0.88 / 2), rtol=1e-6, atol=0)
    scores = SCALE * (Q @ K.mT if sender == "key" else K @ Q.mT)  # receivers by senders
    expected = torch.softmax(scores.masked_fill(~torch.ones(3, 3).tril().bool(), -torch.inf), -2) * 0.44
    torch.testing.assert_close(a, expected, rtol=1e-6, atol=1e-9)


def test_padding_neither_sends_nor_receives() -> None:
    bound = operator("reversed")
    padding = torch.tensor([[True, True, False]])
    a = bound.pattern(Q, K, bound.call(scale=SCALE, causal=False, padding=padding))
    assert not a[..., 2].any() and not a[..., 2, :].any()
    alone = bound.pattern(Q[:, :, :2], K[:, :, :2], bound.call(scale=SCALE, causal=False))
    torch.testing.assert_close(a[..., :2, :2], alone, rtol=1e-12, atol=1e-12)


def test_the_last_rows_alone_are_refused() -> None:
    bound = operator("reversed")
    with pytest.raises(UsageError, match="the queries of 1 of 3 positions: expected all of them"):
        bound.z(Q[:, :, -1:], K, V, bound.call())


def module() -> OperatorModule:
    bound = operator("reversed", message=0.7)
    assert bound.operator.module is not None
    shape = LayerShape(layer=0, n_layers=1, n_heads=2, n_kv_heads=2, d_head=2, d_value=2, d_model=4)
    return bound.operator.module(shape, bound.settings).double()


def test_a_swap_begins_with_all_heads_alike_and_can_be_trained() -> None:
    own = module()
    gates = own.gates(X, lambda name, x: x)
    torch.testing.assert_close(gates["selector"], torch.full_like(gates["selector"], 0.5))
    torch.testing.assert_close(gates["message"], torch.full_like(gates["message"], 0.7), rtol=1e-6, atol=0)
    (gates["selector"][..., 0].sum() + gates["message"].sum()).backward()
    slopes = {name: parameter.grad for name, parameter in own.named_parameters()}
    for name in ("select.weight", "message.weight"):
        slope = slopes[name]
        assert slope is not None and bool(slope.any())
