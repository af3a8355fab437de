"""Models that were trained with other operators are loaded with them, from their files alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ViTConfig, ViTForImageClassification

import workbench as wb
from workbench.errors import UntrustedModel
from workbench.models.saved_operators import KEY, note_operators

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 4,
}


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, torch.Tensor, torch.Tensor]:
    """A folder with reversed attention in layer 1, images, and the logits of the model before it was saved."""
    torch.manual_seed(0)
    hf = ViTForImageClassification(ViTConfig(**SIZES, intermediate_size=64, initializer_range=0.2)).eval()
    trained = wb.swap(wb.HookedViT(hf, check=False), {1: "reversed(temperature=1.0)"}, cache=False).hf
    with torch.no_grad():
        for x in trained.parameters():
            x.add_(0.1 * torch.randn_like(x))
    note_operators(trained)
    trained.save_pretrained(tmp_path / "model")
    images = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        return tmp_path / "model", images, trained(images).logits


def test_a_saved_model_is_loaded_with_its_operators_and_their_weights(saved) -> None:
    folder, images, logits = saved
    model = wb.load(folder, device="cpu")
    assert {layer: str(bound) for layer, bound in model.operators.items()} == {1: "reversed(temperature=1.0)"}
    with torch.no_grad():
        assert torch.equal(model.hf(images).logits, logits)
    plain = wb.HookedViT(ViTForImageClassification.from_pretrained(folder, ignore_mismatched_sizes=True).eval())
    with torch.no_grad():
        assert not torch.allclose(plain.hf(images).logits, logits, atol=1e-2)  # softmax in its place is another model
    assert wb.load(folder, device="cpu", operators={0: "uniform"}).operators.keys() == {0, 1}


def _changed(folder: Path, change: Callable[[dict, dict], None]) -> None:
    config, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    change(config, tensors)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _drop_weight(config: dict, tensors: dict) -> None:
    del tensors[next(name for name in tensors if name.endswith("select.weight"))]


def _change_shape(config: dict, tensors: dict) -> None:
    name = next(name for name in tensors if name.endswith("select.weight"))
    tensors[name] = tensors[name][:2].clone()


def _drop_key(config: dict, tensors: dict) -> None:
    del config[KEY]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop_weight, "1 are missing, unknown or of another shape, such as own.select.weight of layer 1"),
        (_change_shape, "such as own.select.weight of layer 1"),
        (_drop_key, "5 are missing, unknown or of another shape"),
        (lambda config, tensors: config.update({KEY: {"7": "uniform"}}), "names layer 7, and the model has 2"),
        (lambda config, tensors: config.update({KEY: {"1": "reverse"}}), "Did you mean 'reversed'"),
        (lambda config, tensors: config.update({KEY: {"one": "uniform"}}), "is not layers → operators"),
        (lambda config, tensors: config.update({KEY: "uniform"}), "is not layers → operators: dictionary"),
    ],
)
def test_files_that_do_not_go_together_are_refused(saved, change, message) -> None:
    folder, *_ = saved
    _changed(folder, change)
    with pytest.raises(UntrustedModel, match=message):
        wb.load(folder, device="cpu")
