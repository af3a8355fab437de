"""A linear layer taken out of a hybrid model of transformers, and our operator on what enters its mixing: z, the state,
and the matrix that the layer applies to its values, read off by giving it unit vectors as values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel, DynamicCache, MiniMaxConfig, PreTrainedConfig, Qwen3NextConfig
from transformers.models.minimax.modeling_minimax import MiniMaxCache, MiniMaxLightningAttention
from transformers.models.qwen3_next import modeling_qwen3_next

from tests.workbench.attention.operators.recurrent_forms import distance
from workbench.attention.operator import operator

LENGTH, LAYERS = 75, 3
#: What float32, in which both layers compute their decays, leaves of the largest entry.
CLOSE = 1e-6
SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_experts_per_tok": 1,
    "layer_types": ["full_attention", "linear_attention", "full_attention"],
}


@dataclass(frozen=True)
class Mixed:
    """What enters the mixing of a layer, one copy of k a head, and what the layer makes of it.

    Attributes:
        apply: z of other values ``[batch, pos, head, d_value]``, by the layer itself.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    gates: dict[str, Tensor]
    z: Tensor
    state: Tensor
    apply: Callable[[Tensor], Tensor]

    def matrix(self) -> Tensor:
        """A, some columns at a time: z of unit vectors."""
        width, heads = self.v.shape[-1], self.v.shape[1]
        columns = []
        for units in torch.eye(LENGTH, dtype=self.v.dtype).split(width, 1):
            values = torch.zeros(1, LENGTH, 1, width, dtype=units.dtype)
            values[0, :, 0, : units.shape[1]] = units
            columns.append(self.apply(values.expand(2, -1, heads, -1))[..., : units.shape[1]])
        return torch.cat(columns, -1)


def run(config: PreTrainedConfig, cache: Any) -> tuple[nn.Module, Tensor]:
    """A random model's middle layer, after a run that filled the cache, and what entered its mixing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        kernels = {"attn_implementation": "eager", "experts_implementation": "eager"}  # the experts' has no float64
        model = AutoModel.from_config(config, **kernels).eval().double()
        ids = torch.randint(0, 50, (2, LENGTH))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)  # keys and gates that differ between positions
    layer = model.layers[1].self_attn if hasattr(model.layers[1], "self_attn") else model.layers[1].linear_attn
    entered = []
    handle = layer.register_forward_pre_hook(
        lambda module, args, kwargs: entered.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    with torch.no_grad():
        model(ids, cache=cache, use_cache=True)
    handle.remove()
    return layer, entered[0]


@pytest.fixture
def qwen3_next(monkeypatch: pytest.MonkeyPatch) -> Mixed:
    """Its rule is called with q, k, v, β and g; what it returns enters a norm."""
    config = Qwen3NextConfig(
        **SIZES,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
        num_experts=2,
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=16,
    )
    cache = DynamicCache(config=config)
    layer, x = run(config, cache)
    rule, calls, values = modeling_qwen3_next.torch_chunk_gated_delta_rule, [], []

    def spy(query: Tensor, key: Tensor, value: Tensor, **others: Any) -> Any:
        calls.append({"q": query, "k": key, "v": value, **others})
        return rule(query, key, values[-1] if values else value, **others)

    monkeypatch.setattr(modeling_qwen3_next, "torch_chunk_gated_delta_rule", spy)

    def apply(other: Tensor | None) -> Tensor:
        values[:] = [] if other is None else [other]
        return into_norm(layer, x).view(2, LENGTH, 4, 16).transpose(1, 2)

    z = apply(None)
    inputs = {name: calls[0][name].transpose(1, 2) for name in ("q", "k", "v")}
    inputs |= {name: inputs[name].repeat_interleave(2, 1) for name in ("q", "k")}  # two heads a key
    gates = {name: calls[0][name] for name in ("beta", "g")}
    state = cache.get_recurrent_state(1, state_idx=0)
    assert state is not None
    return Mixed(**inputs, gates=gates, z=z, state=state, apply=apply)


def minimax() -> tuple[Mixed, MiniMaxLightningAttention, Tensor]:
    """Its q, k and v are the SiLU of one projection; z enters a norm."""
    config = MiniMaxConfig(**SIZES, num_local_experts=2, block_size=16)
    cache = MiniMaxCache()
    layer, x = run(config, cache)
    assert isinstance(layer, MiniMaxLightningAttention)
    activation = layer.get_submodule("act_fn")
    q, k, v = (
        part.transpose(1, 2) for part in activation(layer.qkv_proj(x)).detach().unflatten(-1, (4, 48)).split(16, -1)
    )

    def apply(other: Tensor | None) -> Tensor:
        def replace(module: nn.Module, args: tuple[Tensor], out: Tensor) -> Tensor:
            both = out.unflatten(-1, (4, 48)).clone()
            if other is not None:
                both[..., 32:] = other
            return both.flatten(-2)

        handle = activation.register_forward_hook(replace)
        z = into_norm(layer, x).view(2, LENGTH, 4, 16).transpose(1, 2)
        handle.remove()
        return z

    state = cache.get_linear_cache(1)
    assert state is not None
    return Mixed(q, k, v, {}, apply(None), state, apply), layer, x


def into_norm(layer: nn.Module, x: Tensor) -> Tensor:
    """What enters the norm behind the mixing."""
    entered = []
    norm = layer.get_submodule("norm")
    handle = norm.register_forward_pre_hook(lambda module, args: entered.append(args[0].detach().clone()))
    with torch.no_grad():
        layer(x, position_embeddings=None, attention_mask=None)
    handle.remove()
    return entered[0]


def test_gated_delta_is_the_linear_layer_of_qwen3_next(qwen3_next: Mixed) -> None:
    layer, bound = qwen3_next, operator("gated-delta")
    call = bound.call(gates=layer.gates, layer=1, n_layers=LAYERS)
    assert layer.gates["beta"].std() > 0.05 and layer.gates["g"].std() > 0.05  # they depend on the position
    assert distance(bound.z(layer.q, layer.k, layer.v, call), layer.z) < CLOSE
    assert distance(bound.explicit(layer.q, layer.k, layer.v, call), layer.z) < CLOSE
    assert distance(bound.advance(layer.k, layer.v, call)[0], layer.state) < CLOSE
    assert distance(bound.pattern(layer.q, layer.k, call), layer.matrix()) < CLOSE


def test_lightning_is_the_linear_layer_of_minimax() -> None:
    layer, module, x = minimax()
    bound = operator("lightning", norm=False, slopes="minimax")
    call = bound.call(layer=1, n_layers=LAYERS)
    assert distance(bound.z(layer.q, layer.k, layer.v, call), layer.z) < CLOSE
    assert distance(bound.explicit(layer.q, layer.k, layer.v, call), layer.z) < CLOSE
    assert distance(bound.advance(layer.k, layer.v, call)[0], layer.state) < CLOSE
    assert distance(bound.pattern(layer.q, layer.k, call), layer.matrix()) < CLOSE
    normed = operator("lightning", slopes="minimax")
    z = normed.z(layer.q, layer.k, layer.v, normed.call(layer=1, n_layers=LAYERS)).transpose(1, 2).flatten(2)
    with torch.no_grad():
        out, _ = module(x, position_embeddings=None, attention_mask=None)
        assert distance(module.out_proj(module.output_gate(x).sigmoid() * z), out) < CLOSE
