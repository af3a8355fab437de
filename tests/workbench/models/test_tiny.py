"""`wb.tiny`: transformers' own Llama, hooked; parameters of operators are parameters of the model and learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

import workbench as wb
from workbench.attention.call import Call
from workbench.attention.operator import LayerShape, Operator, OperatorModule
from workbench.errors import UnknownName, UsageError

IDS = torch.randint(0, 256, (2, 12), generator=torch.Generator().manual_seed(0))


def plain(**sizes: Any) -> LlamaForCausalLM:
    torch.manual_seed(3)
    return LlamaForCausalLM(LlamaConfig(vocab_size=256, max_position_embeddings=2048, **sizes)).eval()


def test_it_is_transformers_own_model_of_that_seed() -> None:
    state = torch.random.get_rng_state()
    model = wb.tiny("lm", layers=3, width=32, heads=4, kv_heads=2, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    expected = plain(
        hidden_size=32, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2
    )
    with torch.no_grad():
        assert torch.equal(model(IDS), expected(IDS).logits)
    assert not torch.equal(model(IDS), wb.tiny("lm", layers=3, width=32, kv_heads=2, seed=4)(IDS))
    assert (model.n_layers, model.n_heads, model.n_kv_heads, model.d_head) == (3, 4, 2, 8)


def test_operators_are_swapped_in_and_named() -> None:
    model = wb.tiny(width=32, operators={0: "sliding-window(window=3)", 1: "lightning"})
    assert {layer: str(bound) for layer, bound in model.operators.items()} == {
        0: "sliding-window(window=3)",
        1: "lightning",
    }
    assert model.provenance["operators"] == {"0": "sliding-window(window=3)", "1": "lightning"}
    pattern = model.run_with_cache(IDS)[1]["blocks.0.attn.hook_pattern"]
    far = torch.ones(12, 12, dtype=torch.bool).tril(-3)
    assert float(pattern[:, :, far].abs().max()) == 0 < float(pattern[:, :, torch.eye(12, dtype=torch.bool)].min())


class LearnedDecay(OperatorModule):
    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.full((shape.n_heads,), 0.5))

    def data(self) -> dict[str, Tensor]:
        return {"rate": self.rate}


def decaying(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``A[i, j] ∝ exp(−rate (i − j))``, rows summing to one."""
    dest, src = q.shape[2], k.shape[2]
    gap = torch.arange(src - dest, src)[:, None] - torch.arange(src)
    scores = (-call.data["rate"][:, None, None] * gap).masked_fill(gap < 0, -torch.inf)
    return torch.softmax(scores, -1).expand(q.shape[0], -1, -1, -1)


DECAY = Operator(
    name="learned-decay",
    version=1,
    source="none: made for this test",
    status="control",
    ignores=("q", "k"),
    causal="token",
    form="stored weights",
    matrix=decaying,
    module=lambda shape, settings: LearnedDecay(shape),
)


def test_parameters_of_operators_learn() -> None:
    model = wb.tiny(width=32, operators={"all": DECAY})
    rates = {name: p for name, p in model.hf.named_parameters() if "rate" in name}
    assert len(rates) == 2 and all(float(p.detach().min()) == float(p.detach().max()) == 0.5 for p in rates.values())
    weights = model.hf.lm_head.weight.detach().clone()
    before = float(model(IDS, return_type="loss").detach())
    optimizer = torch.optim.SGD(model.hf.parameters(), lr=0.5)
    model(IDS, return_type="loss").backward()
    optimizer.step()
    assert all(bool((p.detach() != 0.5).all()) for p in rates.values())
    assert not torch.equal(model.hf.lm_head.weight, weights)
    assert float(model(IDS, return_type="loss").detach()) < before


@pytest.mark.parametrize("operator", ["gated-delta", "recurrent-chunks", "static", "reversed"])
def test_gates_and_tables_take_a_step(operator: str) -> None:
    model = wb.tiny(width=32, operators={1: operator})
    own = {name: p for name, p in model.hf.named_parameters() if "workbench_operator" in name}
    before = {name: p.detach().clone() for name, p in own.items()}
    assert own and all(p.requires_grad for p in own.values())
    optimizer = torch.optim.SGD(model.hf.parameters(), lr=1.0)
    loss = model(IDS, return_type="loss")
    loss.backward()
    optimizer.step()
    changed = [name for name, p in own.items() if not torch.equal(p, before[name])]
    assert changed and float(model(IDS, return_type="loss").detach()) < float(loss.detach())


def test_gradients_through_lightning_are_differences() -> None:
    model = wb.tiny(width=32, operators={"all": "lightning"})
    hf, weight = model.hf.double(), model.hf.model.layers[0].self_attn.q_proj.weight

    def loss() -> Tensor:
        return torch.nn.functional.cross_entropy(hf(IDS).logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())

    loss().backward()
    assert weight.grad is not None
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)).double()
    slope = float((weight.grad * direction).sum())
    losses = []
    with torch.no_grad():
        for step in (3e-5, -6e-5):
            weight += step * direction
            losses.append(float(loss()))
    assert (losses[0] - losses[1]) / 6e-5 == pytest.approx(slope, rel=5e-3)  # norms are in float32
    assert abs(slope) > 1e-3


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"kind": "vit"}, "kind='vit': expected 'lm'"),
        ({"width": 30}, "width=30: expected a multiple of 2 · heads = 8"),
        ({"heads": 4, "kv_heads": 3}, "kv_heads=3: expected a number that divides heads=4"),
        ({"layers": 0}, "layers=0: expected a whole number from 1 to 1,000,000"),
        ({"layers": 1000, "width": 512}, "layers=1000: expected a model of at most 200,000,000 weights"),
        ({"operators": {5: "lightning"}}, "there are 2 layers"),
        ({"operators": {0: "lightening"}}, "'lightning'"),
    ],
)
def test_what_is_refused(arguments: dict[str, object], fragment: str) -> None:
    with pytest.raises((UsageError, UnknownName), match=fragment.replace("(", r"\(")):
        wb.tiny(**arguments)  # pyright: ignore[reportArgumentType] - wrong ones are the point
