"""RAT against its printed numbers, its definition written out, and its limits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.workbench.attention.operators.recurrent_forms import (
    check_forms,
    from_position,
    random_input,
    reference_input,
    rounded,
)
from workbench.attention.call import Call
from workbench.attention.layer import LayerShape
from workbench.attention.operator import BoundOperator, operator
from workbench.attention.operators.recurrent_chunks import ROWS


def call_of(bound: BoundOperator, length: int, gate: Tensor | None = None) -> Call:
    """With one random gate for keys and values, as far as both go, and an output gate."""
    generator = torch.Generator().manual_seed(length)
    gate = torch.rand(2, length, 3, 8, generator=generator, dtype=torch.float64) if gate is None else gate
    output = torch.rand(2, length, 3, 6, generator=generator, dtype=torch.float64)
    return bound.call(scale=0.4, gates={"key": gate, "value": gate[..., :6], "output": output})


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("chunk", [1, 4, 16, 200])
def test_forms_agree(chunk: int, rotary: bool) -> None:
    bound = operator("recurrent-chunks", chunk=chunk, rotary=rotary)
    check_forms(bound, lambda length: call_of(bound, length))


SUMS = {
    False: {1: 2.949272, 2: -0.207333, 4: 1.204421, 8: 0.604139},
    True: {1: 3.106933, 2: -0.13433, 4: 1.241733, 8: 0.604139},
}


@pytest.mark.parametrize("rotary", [False, True])
def test_printed_numbers(rotary: bool) -> None:
    q, k, v = reference_input()
    gate = torch.sin(0.37 * torch.arange(64, dtype=torch.float64)).sigmoid().view(1, 2, 8, 4).transpose(1, 2)
    for chunk, total in SUMS[rotary].items():
        bound = operator("recurrent-chunks", chunk=chunk, rotary=rotary, output_gate=False)
        call = bound.call(scale=0.5, gates={"key": gate, "value": gate})
        z = bound.z(q, k, v, call)
        assert rounded(z.sum()) == [total]
        if chunk == 2:
            last = [-0.001175, 0.013202, 0.032917, 0.052319] if rotary else [-0.020975, 0.017226, 0.057886, 0.082237]
            assert rounded(z[0, 0, 7]) == last
            if not rotary:
                pattern = bound.record(q, k, v, call)["chunk_pattern"][0, 0, 7]
                assert rounded(pattern) == [0.261865, 0.189391, 0.227333, 0, 0.321411]  # its own chunk's end: 0


@pytest.mark.parametrize("chunk", [1, 3, 5])
def test_written_out(chunk: int) -> None:
    q, k, v = random_input(17)
    bound = operator("recurrent-chunks", chunk=chunk)
    call = call_of(bound, 17)
    keys_gate, values_gate, output = (call.gates[name].transpose(1, 2) for name in ("key", "value", "output"))
    z, keys, values = torch.zeros_like(v), torch.zeros_like(k), torch.zeros_like(v)
    for t in range(17):
        before_k, before_v = (keys[:, :, t - 1], values[:, :, t - 1]) if t % chunk else (0, 0)
        keys[:, :, t] = keys_gate[:, :, t] * before_k + (1 - keys_gate[:, :, t]) * k[:, :, t]
        values[:, :, t] = values_gate[:, :, t] * before_v + (1 - values_gate[:, :, t]) * v[:, :, t]
        seen = [*range(chunk - 1, t // chunk * chunk, chunk), t]
        weights = torch.softmax(0.4 * torch.einsum("bhd,bhjd->bhj", q[:, :, t], keys[:, :, seen]), -1)
        z[:, :, t] = torch.einsum("bhj,bhjd->bhd", weights, values[:, :, seen]) * output[:, :, t]
    torch.testing.assert_close(bound.z(q, k, v, call), z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk", [5, 16])
def test_rows_of_several_tiles(chunk: int) -> None:
    q, k, v = random_input(ROWS + 47)
    bound = operator("recurrent-chunks", chunk=chunk)
    call = call_of(bound, ROWS + 47)
    z = bound.z(q, k, v, call)
    torch.testing.assert_close(z, bound.explicit(q, k, v, call), rtol=1e-12, atol=1e-12)
    state = bound.advance(k[:, :, :39], v[:, :, :39], call.positions(0, 39))
    torch.testing.assert_close(bound.z(*from_position(39, (q, k, v)), call.positions(39), state), z[:, :, 39:])


@pytest.mark.parametrize("gate", [0.0, 0.7])
def test_chunks_of_one_are_softmax(gate: float) -> None:
    q, k, v = random_input(30)
    bound = operator("recurrent-chunks", chunk=1, output_gate=False)
    call = call_of(bound, 30, torch.full((2, 30, 3, 8), gate, dtype=torch.float64))
    softmax = F.scaled_dot_product_attention(q, (1 - gate) * k, (1 - gate) * v, is_causal=True, scale=0.4)
    torch.testing.assert_close(bound.z(q, k, v, call), softmax)


def test_a_chunk_of_everything_reads_no_query_and_no_key() -> None:
    q, k, v = random_input(30)
    other_q, other_k, _ = random_input(30, seed=1)
    bound = operator("recurrent-chunks", chunk=30)
    call = call_of(bound, 30)
    assert torch.equal(bound.z(q, k, v, call), bound.z(other_q, other_k, v, call))


def test_without_a_gate_it_attends_to_the_last_of_each_chunk_and_itself() -> None:
    q, k, v = random_input(14)
    bound = operator("recurrent-chunks", chunk=4, output_gate=False)
    call = call_of(bound, 14, torch.zeros(2, 14, 3, 8, dtype=torch.float64))
    seen = torch.eye(14, dtype=torch.bool)
    for t in range(14):
        seen[t, 3 : t // 4 * 4 : 4] = True
    softmax = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=0.4)
    torch.testing.assert_close(bound.z(q, k, v, call), softmax)
    pattern = bound.pattern(q, k, call)
    assert pattern.shape == (2, 3, 6, 14, 14)
    torch.testing.assert_close(pattern.sum(-1), torch.ones(2, 3, 6, 14, dtype=torch.float64))
    assert torch.equal(pattern != 0, seen.expand(2, 3, 6, 14, 14))


def test_chunks_that_hold_only_padding_are_not_attended_to() -> None:
    q, k, v = random_input(16)
    bound = operator("recurrent-chunks", chunk=4, output_gate=False)
    call = call_of(bound, 16)
    padding = torch.arange(16).expand(2, 16) >= 8
    padded = bound.call(scale=0.4, gates=call.gates, padding=padding)
    alone = bound.z(q[:, :, 8:], k[:, :, 8:], v[:, :, 8:], bound.call(scale=0.4, gates=call.positions(8).gates))
    torch.testing.assert_close(bound.z(q, k, v, padded)[:, :, 8:], alone)
    assert not bound.z(q, k, v, padded)[:, :, :8].any()


def test_the_module_begins_with_time_scales_up_to_the_chunk() -> None:
    bound = operator("recurrent-chunks", chunk=16)
    shape = LayerShape(layer=0, n_layers=1, n_heads=3, n_kv_heads=3, d_head=8, d_value=6, d_model=10)
    assert bound.operator.module is not None
    gates = bound.operator.module(shape, bound.settings).gates(torch.randn(2, 5, 10), lambda name, x: x)
    scale = gates["key"] / (1 - gates["key"])
    torch.testing.assert_close(scale[0, 0, 0], 1 + 14 * (torch.arange(8) + 0.5) / 8)
    torch.testing.assert_close(gates["value"], gates["key"][..., :6])
    torch.testing.assert_close(gates["output"], torch.full((2, 5, 3, 6), 0.5))
    short = operator("recurrent-chunks", chunk=1, output_gate=False)
    assert short.operator.module is not None
    gates = short.operator.module(shape, short.settings).gates(torch.randn(2, 5, 10), lambda name, x: x)
    assert gates.keys() == {"key", "value"} and bool((gates["key"] == 0.5).all())
