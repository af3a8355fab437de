"""MLP: a position is what it is, whatever the others are."""

from dataclasses import replace

import pytest
import torch

from tests.workbench.attention.operators.mask_cases import close, proof, random
from workbench.attention.layer import LayerShape
from workbench.attention.operator import operator
from workbench.attention.operators import mlp
from workbench.errors import UsageError

MLP = operator("mlp")
SHAPE = LayerShape(layer=3, n_layers=4, n_heads=2, n_kv_heads=1, d_head=8, d_value=6, d_model=16)


def gates(length: int) -> dict:
    generator = torch.Generator().manual_seed(length + 1)
    return {"gates": {"gate": torch.randn(2, length, 2, 8, generator=generator, dtype=torch.float64)}}


def test_both_forms_agree():
    proof(MLP, [1, 2, 9], values=gates)


def test_it_is_a_gated_unit_of_two_projections():
    """As Hugging Face's MLP of a Llama, with the query projection as its gate and the value projection as the other."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    unit = LlamaMLP(
        LlamaConfig(hidden_size=16, num_attention_heads=2, intermediate_size=16, hidden_act="silu")
    ).double()
    torch.nn.init.eye_(unit.down_proj.weight)
    x = random(1, 2, 5, 16)[0][0]
    project = {"query": unit.gate_proj, "value": unit.up_proj}
    gate = mlp.module(replace(SHAPE, d_value=8), MLP.settings).gates(
        x, lambda name, y: project[name](y).unflatten(-1, (2, 8))
    )
    v = unit.up_proj(x).unflatten(-1, (2, 8)).transpose(1, 2)
    z = MLP.z(v, v, v, MLP.call(gates=gate))
    close(z.transpose(1, 2).flatten(2), unit(x))


def test_no_other_position_matters():
    q, k, v = random(2, 2, 7, 8)
    call = MLP.call(**gates(7))
    z = MLP.z(q, k, v, call)
    values, gate = torch.zeros_like(v), torch.zeros_like(call.gates["gate"])
    values[:, :, 4], gate[:, 4] = v[:, :, 4], call.gates["gate"][:, 4]
    close(MLP.z(q, k, values, MLP.call(gates={"gate": gate}))[:, :, 4], z[:, :, 4])
    pattern = MLP.pattern(q, k, call)
    assert pattern.shape == (2, 2, 8, 7, 7)
    assert torch.equal(pattern, pattern * torch.eye(7))
    assert not MLP.has_pattern


def test_narrower_values_take_the_first_entries_and_wider_ones_are_refused():
    x = random(2, 2, 5, 8)[0]
    gate = mlp.module(SHAPE, MLP.settings).gates(x[:, 0], lambda name, y: x.transpose(1, 2))["gate"]
    assert torch.equal(gate, x.transpose(1, 2)[..., :6])
    with pytest.raises(UsageError, match="layer 3 has 9 values and 8 entries a head"):
        mlp.module(replace(SHAPE, d_value=9), MLP.settings)
