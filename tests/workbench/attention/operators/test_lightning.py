"""Lightning against its printed numbers, its recurrence, MiniMax of transformers and flash-linear-attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import MiniMaxConfig
from transformers.models.minimax.modeling_minimax import MiniMaxLightningAttention

from tests.oracle.unpacked import FLA_CORE
from tests.workbench.attention.operators.recurrent_forms import (
    check_forms,
    distance,
    random_input,
    reference_input,
    rounded,
)
from workbench.attention.operator import operator
from workbench.attention.operators.lightning import alibi_slopes, finish, slopes
from workbench.attention.primitives import recurrence

PLAIN = operator("lightning", norm=False)


@pytest.mark.parametrize("builder", ["alibi", "layered", "minimax"])
def test_forms_agree(builder: str) -> None:
    bound = operator("lightning", norm=False, slopes=builder)
    check_forms(bound, lambda _: bound.call(layer=1, n_layers=4))


def test_printed_numbers() -> None:
    q, k, v = reference_input()
    call = PLAIN.call()
    z = PLAIN.z(q, k, v, call)
    assert rounded(z[0, 0, 7]) == [-0.140547, 0.022375, 0.177481, 0.270588]
    assert rounded(z[0, 1, 7]) == [-0.054247, 0.171113, 0.336699, 0.384665]
    assert rounded(z.sum()) == [4.723186]
    assert rounded(PLAIN.advance(k, v, call)[0][0, 0].sum()) == [-0.146671]
    assert round(float(PLAIN.pattern(q, k, call)[0, 0, 7, 0]), 5) == -0.01128
    assert rounded(recurrence.chunked(q, k, v, torch.tensor([1.0, 2.0]).double()).sum()) == [5.847123]
    assert rounded(recurrence.chunked(q, k, v).sum()) == [4.690161]
    normed = finish(z, operator("lightning").call())[0, :, 7]
    expected = [-0.614472, 0.097822, 0.775944, 1.183006, -0.237165, 0.748106, 1.472042, 1.681752]
    assert rounded(normed) == expected


def test_slopes() -> None:
    assert alibi_slopes(2) == [0.0625, 0.00390625]
    assert alibi_slopes(8) == [2.0**-n for n in range(1, 9)]
    assert rounded(torch.tensor(alibi_slopes(12)[8:])) == [0.707107, 0.353553, 0.176777, 0.088388]
    like = torch.zeros(1, dtype=torch.float64)

    def values(builder: str, layer: int, layers: int = 4) -> list[float]:
        return slopes(4, operator("lightning", slopes=builder).call(layer=layer, n_layers=layers), like).tolist()

    assert values("layered", 1) == [0, 1.5, 3, 4.5]
    assert [round(slope, 5) for slope in values("alibi", 1)] == [0.16667, 0.04167, 0.01042, 0.0026]
    factor = {name: [values(name, layer)[0] / 0.25 for layer in (1, 3)] for name in ("alibi", "minimax")}
    assert rounded(torch.tensor(factor["alibi"])) == [0.666677, 0.00001]
    assert rounded(torch.tensor(factor["minimax"])) == [0.666678, 0.000013]
    assert values("alibi", 0, 1) == [0.25, 0.0625, 0.015625, 0.00390625]  # one layer: no factor


@pytest.mark.parametrize("chunk", [1, 3, 16, 64])
def test_no_chunk_changes_z_or_the_state(chunk: int) -> None:
    q, k, v = random_input(37)
    rates = torch.tensor([0.5, 0.03, 0.0], dtype=torch.float64)
    z, state = step_by_step(q, k, v, rates)
    torch.testing.assert_close(recurrence.chunked(q, k, v, rates, chunk=chunk), z, rtol=1e-12, atol=1e-12)
    pieces = None
    for piece in recurrence.spans(37, chunk):
        pieces = recurrence.advance(k[:, :, piece], v[:, :, piece], rates, pieces)
    torch.testing.assert_close(pieces, state, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk", [3, 64])
def test_the_printed_state_at_a_length_that_no_chunk_divides(chunk: int) -> None:
    _, k, v = reference_input()
    rates, state = torch.tensor(alibi_slopes(2), dtype=torch.float64), None
    for piece in recurrence.spans(8, chunk):
        state = recurrence.advance(k[:, :, piece], v[:, :, piece], rates, state)
    assert state is not None and rounded(state[0, 0].sum()) == [-0.146671]


def test_forgetting_nothing_and_everything() -> None:
    q, k, v = random_input(20)
    own = (q * k).sum(-1, keepdim=True) * v
    torch.testing.assert_close(recurrence.chunked(q, k, v, torch.full((3,), 1e4, dtype=torch.float64)), own)
    sums = torch.einsum(
        "bhik,bhijkv->bhijv", q, torch.einsum("bhjk,bhjv->bhjkv", k, v)[:, :, None].expand(-1, -1, 20, -1, -1, -1)
    )
    plain = (sums * torch.ones(20, 20).tril()[..., None]).sum(3)
    torch.testing.assert_close(recurrence.chunked(q, k, v, torch.zeros(3, dtype=torch.float64)), plain)


def test_values_of_zero_on_the_left_change_nothing() -> None:
    q, k, v = random_input(30)
    z = PLAIN.z(q, k, v, PLAIN.call())
    q2, k2, _ = random_input(41, seed=1)
    longer = torch.cat([q2[:, :, :11], q], 2), torch.cat([k2[:, :, :11], k], 2), F.pad(v, (0, 0, 11, 0))
    torch.testing.assert_close(PLAIN.z(*longer, PLAIN.call())[:, :, 11:], z)


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_minimax(layer: int) -> None:
    module, x, q, k, v = minimax_layer(layer)
    bound = operator("lightning", slopes="minimax")
    call = bound.call(layer=layer, n_layers=4)
    with torch.no_grad():
        expected, state = module(x, position_embeddings=None, attention_mask=None)
        z = bound.z(q, k, v, call)  # divided by its root mean square, as module.norm does
        out = module.out_proj(module.output_gate(x).sigmoid() * z.transpose(1, 2).flatten(2))
    torch.testing.assert_close(out, expected, rtol=0, atol=5e-7)
    torch.testing.assert_close(bound.advance(k, v, call)[0], state, rtol=0, atol=5e-7)
    close = operator("lightning").z(q, k, v, call)  # the slopes of the paper's code: 3 · 10⁻⁶ away at most
    torch.testing.assert_close(close, z, rtol=0, atol=1e-4)


@pytest.mark.parametrize("builder", ["alibi", "layered"])
def test_flash_linear_attention(builder: str) -> None:
    naive = FLA_CORE.file("fla/ops/simple_gla/naive.py")
    bound = operator("lightning", norm=False, slopes=builder)
    call = bound.call(layer=1, n_layers=4)
    q, k, v = random_input(128)
    rates = slopes(3, call, q)
    inputs = [x.transpose(1, 2) for x in (q, k, v)]
    decay = (-rates).expand(2, 128, 3)
    z, state = naive.naive_recurrent_simple_gla(*inputs, g=decay, scale=1.0)
    assert distance(bound.z(q, k, v, call), z.transpose(1, 2)) < 5e-6
    assert distance(bound.advance(k, v, call)[0], state) < 5e-6


def minimax_layer(layer: int) -> tuple[MiniMaxLightningAttention, Tensor, Tensor, Tensor, Tensor]:
    """A random layer of four heads, 37 positions, and its q, k and v, float64; its decays are float32."""
    config = MiniMaxConfig(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=4, head_dim=8, num_hidden_layers=4, block_size=16
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(layer)
        module = MiniMaxLightningAttention(config, layer).double()
        x = torch.randn(2, 37, 32, dtype=torch.float64)
    with torch.no_grad():
        both = module.act_fn(module.qkv_proj(x)).unflatten(-1, (4, 24))
    q, k, v = (part.transpose(1, 2) for part in both.split(8, -1))
    return module, x, q, k, v


def step_by_step(q: Tensor, k: Tensor, v: Tensor, rates: Tensor) -> tuple[Tensor, Tensor]:
    """The definition: z of each position, and the last state."""
    state = torch.zeros(*q.shape[:2], k.shape[3], v.shape[3], dtype=q.dtype)
    z = torch.zeros_like(v)
    for t in range(q.shape[2]):
        state = torch.exp(-rates)[:, None, None] * state + k[:, :, t, :, None] * v[:, :, t, None]
        z[:, :, t] = torch.einsum("bhk,bhkv->bhv", q[:, :, t], state)
    return z, state
