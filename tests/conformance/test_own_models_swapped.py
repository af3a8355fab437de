"""Other operators in models of one's own: a vision transformer and plain torch nets, causal or not, on a grid with a
class token ahead of it. The wiring is what a forward written out gives, and sweeps are what plain hooks give."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.conformance.own_models import (
    D_HEAD,
    HEADS,
    KINDS,
    LAYERS,
    Attention,
    Case,
    differences,
    make,
    pairs,
    pictures,
    stacked,
)
from tests.oracle.plain_hooks import head_slice
from workbench.attention.operator import BoundOperator
from workbench.attention.operator import operator as bound_operator
from workbench.errors import UsageError

#: The picture's patches, and the class token ahead of them.
PLACE: dict[str, Any] = {"grid": (3, 3), "before": 1}
OPERATORS = (
    "neighbourhood(window=2)",
    "interleaved-space-time",
    "bi-level-routing(regions=3, top_k=1)",
    "simplified-linear(kernel=3)",
    "linear",
    "second-order",
    "uniform",
)


def swapped(kind: str, operator: str, layer: int = 1) -> Case:
    case = make(kind)
    model = wb.swap(case.model, {layer: operator}, bidirectional=True, cache=False, **PLACE)
    names = {module: name for name, module in case.model.hf.named_modules()}
    return Case(model, lambda i: model.hf.get_submodule(names[case.project(i)]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_sweeps_are_what_plain_hooks_give(kind: str, operator: str) -> None:
    case, inputs = swapped(kind, operator), pairs()
    sweep = wb.sweep(case.model, inputs, edit="zero", cache=False)
    x = stacked(inputs.clean)
    assert np.allclose(sweep.base, differences(case.outputs(x), inputs), atol=1e-9)
    for layer, head in product(range(LAYERS), range(HEADS)):

        def zero(z: Tensor, head: int = head) -> Tensor:
            z = z.clone()
            z[..., head_slice(head, D_HEAD)] = 0
            return z

        expected = differences(case.outputs(x, (layer, zero)), inputs)
        assert np.allclose(sweep.values[layer, head], expected, atol=1e-9)
    assert np.abs(sweep.delta[1]).max() > 1e-2
    patched = wb.sweep(case.model, inputs, by="position", positions=["cls", 5], layers=[0, 1], cache=False)
    source, base = case.z(x), stacked(inputs.corrupt)
    for (a, layer), (b, at) in product(enumerate([0, 1]), enumerate([0, 5])):

        def patch(z: Tensor, layer: int = layer, at: int = at) -> Tensor:
            z = z.clone()
            z[:, at] = source[layer][:, at]
            return z

        expected = differences(case.outputs(base, (layer, patch)), inputs)
        assert np.allclose(patched.values[a, b], expected, atol=1e-9)


def written_out(bound: BoundOperator, causal: bool) -> Callable[..., Tensor]:
    """The attention of a plain net by the operator's matrix."""

    def forward(self: Attention, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        call = bound.call(scale=D_HEAD**-0.5, causal=causal, layer=1, n_layers=LAYERS, n_kv_heads=HEADS, **PLACE)
        return self.out(bound.explicit(q, k, v, call).transpose(1, 2).flatten(2))

    return forward


@pytest.mark.parametrize("kind", ["net", "causal net"])
@pytest.mark.parametrize("operator", [name for name in OPERATORS if not name.startswith("simplified")])
def test_the_wiring_is_that_of_a_forward_written_out(kind: str, operator: str) -> None:
    case, bound = make(kind), bound_operator(operator)
    model = wb.swap(case.model, {1: bound}, bidirectional=True, cache=False, **PLACE)
    net: Any = copy.deepcopy(case.model.hf)
    attention = net.blocks[1].attn
    attention.forward = written_out(bound, kind == "causal net" and bound.keeps_causality).__get__(attention)
    x = pictures(3, seed=4)
    with torch.no_grad():
        expected = net(x)
        assert torch.allclose(model(x), expected, atol=1e-9)
        assert torch.allclose(model.hf(x), expected, atol=1e-9)
        assert not torch.allclose(case.model(x), expected, atol=1e-3)


def test_what_cannot_go_in_is_said_in_one_line() -> None:
    causal, net = make("causal net").model, make("net").model
    refused = [
        (causal, {0: "joint-block"}, {}, r"lets positions see later ones.*bidirectional=True"),
        (net, {0: "interleaved-space-time"}, {}, r"needs the grid of the positions. Give grid="),
        (net, {0: "layout-mask"}, {}, r"needs data. Give data= with "),
        (net, {0: "masked-reference"}, {}, r"cannot replace attention: it has two streams"),
        (net, {7: "uniform"}, {}, r"expected a? ?layers? from 0 to 2"),
        (net, {"0-2": "uniform", 1: "softmax"}, {}, r"layer 1 is given two operators"),
        (net, {}, {}, r"expected at least one layer"),
        (net, {0: "sliding-window(window=0)"}, {}, r"expected a whole number of at least 1"),
        (net, {0: "unifrom"}, {}, r"Did you mean 'uniform'"),
    ]
    for model, operators, options, message in refused:
        with pytest.raises(wb.WorkbenchError, match=message) as error:
            wb.swap(model, operators, cache=False, **options)
        assert isinstance(error.value, UsageError) and "\n" not in str(error.value)


def test_inputs_that_do_not_lie_on_the_grid_are_refused_in_one_line() -> None:
    model = wb.swap(make("net").model, {1: "neighbourhood(window=2)"}, cache=False, **PLACE)
    with pytest.raises(
        wb.WorkbenchError, match=r"has the grid \(3, 3\) with 1 positions before it, 10 in all, and there"
    ):
        model(pictures(2, seed=1)[:, :9])


def test_an_operator_that_sees_the_future_against_its_word_is_refused() -> None:
    peeking = wb.Operator(
        name="peeking",
        version=1,
        source="this test",
        status="control",
        causal="token",
        matrix=lambda q, k, call: torch.softmax(q @ k.mT, -1),
    )
    with pytest.raises(wb.WorkbenchError, match="lets positions see later ones, although it is declared causal"):
        wb.swap(make("causal net").model, {1: peeking}, cache=False)
