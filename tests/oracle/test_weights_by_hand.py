"""Scores from weights of families whose projections are fused, latent or normed, against matrices made by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.other_families import hooked_other, other
from workbench.head_scores import weights

#: q, k, v and o of one layer, each ``[head or kv_head, d_model, d_head]``; o ``[head, d_head, d_model]``.
Matrices = tuple[Tensor, Tensor, Tensor, Tensor]
N_HEADS, D_HEAD = 6, 8


def heads(matrix: Tensor, d_head: int = D_HEAD) -> Tensor:
    """``[d_out, d_in]`` → ``[head, d_in, d_head]``."""
    return matrix.unflatten(0, (-1, d_head)).mT


def written(matrix: Tensor) -> Tensor:
    """``[d_model, heads · d_head]`` → ``[head, d_head, d_model]``."""
    return matrix.T.unflatten(0, (N_HEADS, -1))


def centred(gain: Tensor, weight: Tensor) -> Tensor:
    """A matrix that reads a LayerNorm, as one that reads the stream."""
    weight = gain[:, None] * weight
    return weight - weight.mean(-2, keepdim=True)


def opt(layer: Any) -> Matrices:
    a, gain = layer.self_attn, layer.self_attn_layer_norm.weight
    q, k, v = (centred(gain, heads(p.weight)) for p in (a.q_proj, a.k_proj, a.v_proj))
    return q, k, v, written(a.out_proj.weight)


def phi3(layer: Any) -> Matrices:
    a, gain = layer.self_attn, layer.input_layernorm.weight[:, None]
    q, k, v = a.qkv_proj.weight.split([48, 16, 16])
    return gain * heads(q), gain * heads(k), gain * heads(v), written(a.o_proj.weight)


def gpt_bigcode(layer: Any) -> Matrices:
    q, k, v = layer.attn.c_attn.weight.split([48, 8, 8])
    q, k, v = (centred(layer.ln_1.weight, heads(x)) for x in (q, k, v))
    return q, k, v, written(layer.attn.c_proj.weight)


def olmo2(layer: Any) -> Matrices:
    a, after = layer.self_attn, layer.post_attention_layernorm.weight
    q = heads(a.q_proj.weight * a.q_norm.weight[:, None])
    k = heads(a.k_proj.weight * a.k_norm.weight[:, None])
    return q, k, heads(a.v_proj.weight), written(a.o_proj.weight) * after


def bitnet(layer: Any) -> Matrices:
    a, gain = layer.self_attn, layer.input_layernorm.weight[:, None]
    q, k, v = (gain * heads(p.weight) for p in (a.q_proj, a.k_proj, a.v_proj))
    return q, k, v, written(a.o_proj.weight * a.attn_sub_norm.weight)


def granite(layer: Any) -> Matrices:
    a, gain = layer.self_attn, layer.input_layernorm.weight[:, None]
    q, k, v = (gain * heads(p.weight) for p in (a.q_proj, a.k_proj, a.v_proj))
    return q, k, v, written(a.o_proj.weight) * 0.5


def qwen3_next(layer: Any) -> Matrices:
    """The gate left out."""
    a, gain = layer.self_attn, 1 + layer.input_layernorm.weight[:, None]
    q = a.q_proj.weight.unflatten(0, (N_HEADS, 2, D_HEAD))[:, 0].mT * (1 + a.q_norm.weight)
    k = heads(a.k_proj.weight) * (1 + a.k_norm.weight)
    return gain * q, gain * k, gain * heads(a.v_proj.weight), written(a.o_proj.weight)


def cohere(layer: Any) -> Matrices:
    """The norms of q and k centre each head."""
    a, gain = layer.self_attn, layer.input_layernorm.weight
    read = [centred(gain, heads(p.weight)) for p in (a.q_proj, a.k_proj, a.v_proj)]
    for i, norm in ((0, a.q_norm), (1, a.k_norm)):
        read[i] = (read[i] - read[i].mean(-1, keepdim=True)) * norm.weight[:, None]
    return read[0], read[1], read[2], written(a.o_proj.weight)


def deepseek_v3(layer: Any) -> Matrices:
    """Latent q, k and v with norms between; the rotated part of k is one for all heads."""
    a, gain = layer.self_attn, layer.input_layernorm.weight[:, None]
    latent = a.q_a_proj.weight.T * a.q_a_layernorm.weight
    q = torch.einsum("mr,hrd->hmd", latent, heads(a.q_b_proj.weight, 12))
    compressed, rotated = a.kv_a_proj_with_mqa.weight.T.split([16, 4], -1)
    both = torch.einsum("mr,hrd->hmd", compressed * a.kv_a_layernorm.weight, heads(a.kv_b_proj.weight, 16))
    k = torch.cat([both[..., :8], rotated.expand(N_HEADS, -1, -1)], -1)
    return gain * q, gain * k, gain * both[..., 8:], written(a.o_proj.weight)


def codegen(layer: Any) -> Matrices:
    """Four blocks, each of q, v and k of its heads."""
    blocks = layer.attn.qkv_proj.weight.unflatten(0, (4, 3, -1))
    q, v, k = (centred(layer.ln_1.weight, heads(blocks[:, i].flatten(0, 1), 12)) for i in range(3))
    return q, k, v, layer.attn.out_proj.weight.T.unflatten(0, (4, 12))


BY_HAND: dict[str, tuple[str, Callable[[Any], Matrices]]] = {
    "bitnet": ("model.layers", bitnet),
    "codegen": ("transformer.h", codegen),
    "cohere": ("model.layers", cohere),
    "deepseek_v3": ("model.layers", deepseek_v3),
    "gpt_bigcode": ("transformer.h", gpt_bigcode),
    "granite": ("model.layers", granite),
    "olmo2": ("model.layers", olmo2),
    "opt": ("model.decoder.layers", opt),
    "phi3": ("model.layers", phi3),
    "qwen3_next": ("model.layers", qwen3_next),
}


@pytest.mark.parametrize("family", BY_HAND)
def test_circuits_are_those_of_the_matrices(family: str) -> None:
    model, (layers, matrices) = hooked_other(family), BY_HAND[family]
    model_heads = weights.HeadWeights.of(model)
    sizes = weights.circuit_sizes(weights.spectra(model_heads))
    copying = weights.copy_score(model, model_heads)
    for i in range(model.n_layers):
        q, k, v, o = matrices(other(family).get_submodule(f"{layers}.{i}"))
        for head in range(model.n_heads):
            row, of_keys = i * model.n_heads + head, head // (model.n_heads // len(k))
            OV, QK = v[head // (model.n_heads // len(v))] @ o[head], q[head] @ k[of_keys].mT
            assert float(sizes["ov_norm"][row]) == pytest.approx(float(OV.norm()), rel=1e-5)
            assert float(sizes["qk_norm"][row]) == pytest.approx(float(QK.norm()), rel=1e-5)
            own = model_heads.V[row] @ model_heads.O[row]
            assert torch.allclose(own, OV, atol=1e-5 * float(OV.abs().max()))
            circuit = model.W_E @ OV @ unembedding(family, model)
            values = torch.linalg.eigvals(circuit.double())
            expected = float(values.real.sum() / values.abs().sum())
            assert float(copying[row]) == pytest.approx(expected, abs=1e-4)
    assert float(copying.abs().max()) > 1e-2


def unembedding(family: str, model: Any) -> Tensor:
    """The final norm's gain, and its centring where it has one, with the unembedding."""
    names = {"opt": "model.decoder.final_layer_norm", "codegen": "transformer.ln_f", "gpt_bigcode": "transformer.ln_f"}
    gain = model.hf.get_submodule(names.get(family, "model.norm")).weight
    gain = 1 + gain if family == "qwen3_next" else gain
    weight = model.hf.lm_head.weight.T
    return centred(gain, weight) if family in ("cohere", "opt", "codegen", "gpt_bigcode") else gain[:, None] * weight
