"""Models that accelerate offloads, and quantised ones: they give the numbers of the plain model, or are refused with
the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from accelerate.hooks import remove_hook_from_module
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

import workbench as wb
from tests.families import FAMILIES, nudged, paired
from workbench.cache import CacheNotice
from workbench.errors import UnsupportedModel
from workbench.models import projections
from workbench.models.language import HookedLM
from workbench.models.projections import projection

IDS = torch.randint(0, 101, (2, 9), generator=torch.Generator().manual_seed(4))
#: Parts of a model on disk, the others in memory.
MAP: dict[str, Any] = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.layers.2": "cpu",
    "model.norm": "cpu",
    "model.rotary_emb": "cpu",
    "lm_head": "disk",
}
PLACED: dict[str, Callable[[Any, Path], Any]] = {
    "dispatched": lambda hf, _: accelerate.dispatch_model(hf, {"": "cpu"}, force_hooks=True),
    "in memory": lambda hf, _: accelerate.cpu_offload(hf, execution_device=torch.device("cpu")),
    "on disk": lambda hf, folder: accelerate.disk_offload(hf, str(folder), execution_device=torch.device("cpu")),
    "part on disk": lambda hf, folder: accelerate.dispatch_model(hf, MAP, torch.device("cpu"), offload_dir=str(folder)),
}


@pytest.mark.parametrize(
    ("family", "place"), [*(("llama", place) for place in PLACED), ("gpt2", "in memory"), ("gpt2", "on disk")]
)
def test_offloaded_models_give_the_same_numbers_and_are_not_cached(family: str, place: str, tmp_path: Path) -> None:
    plain, task = HookedLM(nudged(family)), paired(2)
    model = HookedLM(PLACED[place](nudged(family), tmp_path / "weights"))
    assert model.resumable and model.device.type == "cpu"
    assert torch.equal(model(IDS), plain(IDS))
    with pytest.warns(CacheNotice, match="accelerate has replaced the forward of"):
        sweep = wb.sweep(model, task, cache=tmp_path)
    assert np.allclose(sweep.values, wb.sweep(plain, task).values, atol=1e-5)
    for layer in range(model.n_layers):
        for name in ("W_Q", "W_V", "W_O", "b_O"):
            a, b = (getattr(m.blocks[layer].attn, name) for m in (model, plain))
            assert torch.allclose(a, b, atol=1e-5)
    assert torch.allclose(model.W_U, plain.W_U, atol=1e-5) and torch.allclose(model.W_E, plain.W_E, atol=1e-5)
    norms = [m.norm_weight(m.module(m.anatomy.final_norm)) for m in (model, plain)]
    assert torch.equal(*norms)


def test_a_model_that_is_offloaded_after_wrapping_goes_on() -> None:
    model, task = HookedLM(nudged("llama")), paired(2)
    before, identity = wb.sweep(model, task).values, model.identity.current()
    accelerate.cpu_offload(model.hf, execution_device=torch.device("cpu"))
    assert np.allclose(wb.sweep(model, task).values, before, atol=1e-5)
    with pytest.warns(CacheNotice, match="accelerate has replaced the forward"):
        assert model.identity.current() is None
    remove_hook_from_module(model.hf, recurse=True)
    assert model.identity.current() == identity  # the weights are back


def test_removed_hooks_of_accelerate_leave_a_model_that_is_cached() -> None:
    """Accelerate leaves each module's own forward behind as an attribute."""
    model = HookedLM(nudged("llama"))
    before = model.identity.current()
    accelerate.dispatch_model(model.hf, {"": "cpu"}, force_hooks=True)
    remove_hook_from_module(model.hf, recurse=True)
    assert "forward" in model.hf.model.layers[0].__dict__
    assert model.identity.current() == before


def test_models_without_data_are_refused() -> None:
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(FAMILIES["llama"]()).eval()
    with pytest.raises(UnsupportedModel, match=r"embed_tokens\.weight of LlamaForCausalLM has no data"):
        HookedLM(empty)


# --- quantised weights ------------------------------------------------------------------------------------------------


class Int8Linear(nn.Module):
    """A linear layer with 8-bit weights, as libraries of quantised models have them."""

    scale: Tensor
    qweight: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("scale", linear.weight.abs().amax(1, keepdim=True) / 127)
        self.register_buffer("qweight", torch.round(linear.weight / self.scale).to(torch.int8))
        self.bias = linear.bias

    def dequantised(self) -> Tensor:
        return self.qweight.float() * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.dequantised(), self.bias)


class Int8RowsLinear(Int8Linear):
    """It rounds its inputs to 8 bits too, by the largest number of each position."""

    def rounded(self, x: Tensor, largest: Tensor) -> Tensor:
        scale = largest.clamp(min=1e-9) / 127
        return torch.round(x / scale) * scale

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.rounded(x, x.abs().amax(-1, keepdim=True)))


class Int8BatchLinear(Int8RowsLinear):
    """By the largest number of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return Int8Linear.forward(self, self.rounded(x, x.abs().amax()))


def quantised(kind: type[Int8Linear], *, plain: bool = False) -> Any:
    """A model with such layers, or with `plain` layers that hold what theirs do."""
    hf = nudged("llama")
    for name, module in list(hf.named_modules()):
        if isinstance(module, nn.Linear) and name != "lm_head":
            layer: nn.Module = kind(module)
            if plain:
                module.weight.copy_(layer.dequantised())
                continue
            parent, _, last = name.rpartition(".")
            setattr(hf.get_submodule(parent), last, layer.eval())
    return hf


def test_quantised_weights_give_the_numbers_of_their_values(tmp_path: Path) -> None:
    model, plain = HookedLM(quantised(Int8Linear)), HookedLM(quantised(Int8Linear, plain=True))
    task = paired(2)
    assert torch.equal(model(IDS), model.hf(IDS).logits)
    sweeps = [wb.sweep(m, task, cache=tmp_path).values for m in (model, plain)]
    assert np.allclose(*sweeps, atol=1e-4)
    for name in ("W_Q", "W_K", "W_V", "W_O"):
        assert torch.allclose(*(getattr(m.blocks[1].attn, name) for m in (model, plain)), atol=1e-5)
    before = model.identity.current()
    model.hf.model.layers[0].self_attn.q_proj.scale.mul_(2)
    assert model.identity.current() not in (None, before)


def test_a_projection_that_rounds_its_input_has_no_matrix() -> None:
    model = quantised(Int8RowsLinear)
    with pytest.raises(UnsupportedModel, match="Int8RowsLinear is no linear map: its output for random inputs differs"):
        projection(model.model.layers[0].self_attn.v_proj)


def test_quantised_weights_that_mix_a_batch_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"Its weights are quantised \(.*Int8BatchLinear\), which may round by"):
        HookedLM(quantised(Int8BatchLinear))


# --- the matrix of a projection ---------------------------------------------------------------------------------------


def test_a_hook_or_another_forward_is_part_of_the_map() -> None:
    torch.manual_seed(0)
    linear: Any = nn.Linear(4, 3).eval()
    assert projection(linear) is linear.weight
    handle = linear.register_forward_hook(lambda _, __, output: 2 * output)
    assert torch.allclose(projection(linear), 2 * linear.weight, atol=1e-6)
    handle.remove()
    forward = linear.forward
    linear.forward = lambda x: forward(3 * x)
    assert torch.allclose(projection(linear), 3 * linear.weight, atol=1e-6)
    del linear.forward
    assert projection(linear) is linear.weight


def test_the_matrix_is_evaluated_once_and_again_after_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, evaluate = [], projections._evaluate

    def counted(module: nn.Module) -> Any:
        calls.append(module)
        return evaluate(module)

    monkeypatch.setattr(projections, "_evaluate", counted)
    torch.manual_seed(0)
    module: Any = Int8Linear(nn.Linear(4, 3).requires_grad_(False)).eval()
    first = projection(module)
    first.zero_()  # a copy
    assert torch.allclose(projection(module), module.dequantised(), atol=1e-6) and len(calls) == 1
    module.scale.mul_(2)
    assert torch.allclose(projection(module), module.dequantised(), atol=1e-6) and len(calls) == 2
