"""Both delta rules against their printed numbers, their recurrence, transformers and flash-linear-attention."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.models.qwen3_next.modeling_qwen3_next import (
    torch_chunk_gated_delta_rule,
    torch_recurrent_gated_delta_rule,
)

from tests.oracle.unpacked import FLA_CORE
from tests.workbench.attention.operators.recurrent_forms import (
    check_forms,
    distance,
    from_position,
    random_input,
    reference_input,
    rounded,
)
from workbench.attention.call import Call
from workbench.attention.layer import LayerShape
from workbench.attention.operator import BoundOperator, operator
from workbench.attention.primitives import delta

NAMES = ("delta", "gated-delta")


def gates_of(name: str, length: int, heads: int = 3) -> dict[str, Tensor]:
    """β and g of two rows, by position and head."""
    generator = torch.Generator().manual_seed(length)
    beta, g = torch.rand(2, 2, length, heads, generator=generator, dtype=torch.float64)
    return {"beta": beta} if name == "delta" else {"beta": beta, "g": -0.3 * g}


def call_of(bound: BoundOperator, length: int) -> Call:
    return bound.call(gates=gates_of(bound.operator.name, length))


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_forms_agree(name: str, unit: bool) -> None:
    bound = operator(name, unit=unit)

    def call(length: int) -> Call:
        gates = gates_of(name, length)
        return bound.call(gates=gates if unit else {**gates, "beta": gates["beta"] / 20})  # long keys need small steps

    check_forms(bound, call)


@pytest.mark.parametrize(
    ("name", "last", "total", "state"),
    [
        ("delta", [-0.044549, 0.008725, 0.05895, 0.088583], 1.024595, 0.083922),
        ("gated-delta", [-0.040828, 0.010932, 0.058874, 0.086249], 1.043675, 0.08096),
    ],
)
def test_printed_numbers(name: str, last: list[float], total: float, state: float) -> None:
    """The reference divides q and k by their exact norms; `unit` adds 10⁻⁶ to their squares, as released code does."""
    q, k, v = reference_input()
    n = torch.arange(16, dtype=torch.float64).view(1, 2, 8).mT
    gates = {"beta": torch.sin(n).sigmoid(), "g": -0.1 * (1 + torch.cos(n))}
    bound = operator(name, unit=False)
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    z = bound.z(q, k, v, bound.call(gates=gates))
    assert rounded(z[0, 0, 7]) == last
    assert rounded(z.sum()) == [total]
    assert rounded(bound.advance(k, v, bound.call(gates=gates))[0].sum()) == [state]
    released = operator(name)
    torch.testing.assert_close(released.z(q, k, v, released.call(gates=gates)), z, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_no_chunk_changes_z_or_the_state(name: str, chunk: int) -> None:
    q, k, v = random_input(37)
    gates = gates_of(name, 37)
    beta, g = gates["beta"].mT, gates.get("g", torch.zeros(2, 37, 3, dtype=torch.float64)).mT
    unit = delta.normalised(k)
    state, z = torch.zeros(2, 3, 8, 6, dtype=torch.float64), torch.zeros_like(v)
    for t in range(37):
        state = state * g[..., t, None, None].exp()
        error = v[:, :, t] - torch.einsum("bhk,bhkv->bhv", unit[:, :, t], state)
        state = state + beta[..., t, None, None] * unit[:, :, t, :, None] * error[..., None, :]
        z[:, :, t] = torch.einsum("bhk,bhkv->bhv", q[:, :, t], state)
    decay = None if name == "delta" else g
    torch.testing.assert_close(delta.chunked(q, unit, v, beta, decay, chunk=chunk), z, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(delta.advance(unit, v, beta, decay, chunk=chunk), state, rtol=1e-11, atol=1e-12)


def test_gates_at_their_limits() -> None:
    q, k, v = random_input(7)
    bound, gated = operator("delta"), operator("gated-delta")

    def z(of: BoundOperator, beta: float, g: float = 0.0) -> Tensor:
        shape = (2, 7, 3)
        gates = {"beta": torch.full(shape, beta).double(), "g": torch.full(shape, g).double()}
        return of.z(q, k, v, of.call(gates=gates))

    assert not z(bound, 0.0).any()  # nothing is written
    torch.testing.assert_close(z(gated, 0.7), z(bound, 0.7))  # no decay
    sums = torch.einsum(
        "bhik,bhjk,ij->bhij", delta.normalised(q), delta.normalised(k), torch.ones(7, 7).tril().double()
    )
    first_order = 1e-6 * sums @ v / 8**0.5
    torch.testing.assert_close(z(bound, 1e-6), first_order, rtol=0, atol=1e-11)  # linear attention


def test_orthonormal_keys_are_recalled_and_repeated_ones_overwritten() -> None:
    _, _, v = random_input(8)
    keys = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    k = keys.expand(2, 3, 8, 8)
    bound = operator("delta", unit=False)
    call = bound.call(gates={"beta": torch.ones(2, 8, 3, dtype=torch.float64)})
    state = bound.advance(k, v, call)
    torch.testing.assert_close(k @ state[0], v)
    again = bound.advance(k[:, :, :1], 2 * v[:, :, :1], call.positions(0, 1), state)
    torch.testing.assert_close((k @ again[0])[:, :, 0], 2 * v[:, :, 0])
    torch.testing.assert_close((k @ again[0])[:, :, 1:], v[:, :, 1:])


@pytest.mark.parametrize("start", [0, 21])
@pytest.mark.parametrize("oracle", [torch_chunk_gated_delta_rule, torch_recurrent_gated_delta_rule])
def test_transformers(oracle: Callable[..., tuple[Tensor, Tensor]], start: int) -> None:
    bound = operator("gated-delta")
    q, k, v = random_input(93)
    call = call_of(bound, 93)
    inputs = {name: x.transpose(1, 2) for name, x in (("query", q), ("key", k), ("value", v))}

    def oracle_of(part: slice, state: Tensor | None) -> tuple[Tensor, Tensor]:
        arguments = {name: x[:, part] for name, x in {**inputs, **call.gates}.items()}
        return oracle(**arguments, initial_state=state, output_final_state=True, use_qk_l2norm_in_kernel=True)

    state = oracle_of(slice(0, start), None)[1] if start else None
    z, last = oracle_of(slice(start, None), state)
    assert distance(bound.z(q, k, v, call)[:, :, start:], z.transpose(1, 2)) < 1e-6
    assert distance(bound.advance(k, v, call)[0], last) < 1e-6
    if state is not None:  # ours goes on from theirs
        rest = bound.z(*from_position(start, (q, k, v)), call.positions(start), (state.double(),))
        assert distance(rest, z.transpose(1, 2)) < 1e-6


def test_flash_linear_attention() -> None:
    naive = FLA_CORE.file("fla/ops/delta_rule/naive.py")
    bound = operator("delta", unit=False)
    q, k, v = random_input(96)
    k = F.normalize(k, dim=-1)
    beta = gates_of("delta", 96)["beta"]
    call = bound.call(gates={"beta": beta})
    z, state = naive.delta_rule_recurrence(q, k, v, beta.mT)
    assert distance(bound.z(q, k, v, call), z) < 1e-6
    assert distance(bound.advance(k, v, call)[0], state) < 1e-6
    single = (x.float() for x in (q, k, v, beta.mT))
    z, pattern = naive.delta_rule_parallel(*single, BM=32, BN=32)
    assert distance(bound.z(q, k, v, call), z) < 2e-6
    assert distance(bound.pattern(q, k, call), pattern.tril() * beta.mT[:, :, None]) < 2e-6  # theirs is of β v


def test_flash_linear_attention_gated() -> None:
    naive = FLA_CORE.file("fla/ops/gated_delta_rule/naive.py")
    bound = operator("gated-delta", unit=False)
    q, k, v = random_input(93)
    k = F.normalize(k, dim=-1)
    gates = gates_of("gated-delta", 93)
    call = bound.call(gates=gates)
    inputs = {name: x.transpose(1, 2) for name, x in (("q", q), ("k", k), ("v", v))} | gates
    for rule in (naive.naive_recurrent_gated_delta_rule, naive.naive_chunk_gated_delta_rule):
        z, state = rule(**inputs, output_final_state=True)
        assert distance(bound.z(q, k, v, call), z.transpose(1, 2)) < 1e-6
        assert distance(bound.advance(k, v, call)[0], state) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_the_module_begins_with_the_settings(name: str) -> None:
    bound = operator(name, beta=0.8) if name == "delta" else operator(name, beta=0.8, decay=0.9)
    shape = LayerShape(layer=0, n_layers=2, n_heads=3, n_kv_heads=1, d_head=8, d_value=6, d_model=10)
    assert bound.operator.module is not None
    before = torch.random.get_rng_state()
    module = bound.operator.module(shape, bound.settings).double()
    assert torch.equal(torch.random.get_rng_state(), before)  # made without chance
    gates = module.gates(torch.randn(2, 20, 10, dtype=torch.float64), lambda name, x: x)
    expected = {"beta": 0.8} if name == "delta" else {"beta": 0.8, "g": torch.tensor(0.9).log().item()}
    assert gates.keys() == expected.keys()
    for gate, value in expected.items():
        torch.testing.assert_close(gates[gate], torch.full((2, 20, 3), value).double(), rtol=1e-6, atol=1e-7)
    q, k, v = random_input(20)
    torch.testing.assert_close(
        bound.z(q, k, v, bound.call(gates=gates)), bound.z(q, k, v, bound.call()), rtol=1e-5, atol=1e-6
    )
    z = bound.z(q, k, v, bound.call(gates=gates)).square().sum()
    assert all(slope.any() for slope in torch.autograd.grad(z, list(module.parameters())))  # it can be trained


@pytest.mark.parametrize("name", NAMES)
def test_decay_of_one_and_beta_of_one(name: str) -> None:
    bound = operator(name, beta=1) if name == "delta" else operator(name, beta=1, decay=1)
    shape = LayerShape(layer=0, n_layers=2, n_heads=3, n_kv_heads=1, d_head=8, d_value=6, d_model=10)
    assert bound.operator.module is not None
    gates = bound.operator.module(shape, bound.settings).gates(torch.randn(2, 5, 10), lambda name, x: x)
    assert bool((gates["beta"] == 1).all()) and not gates.get("g", torch.zeros(1)).any()
