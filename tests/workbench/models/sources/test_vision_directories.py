"""Vision models from directories: their classes, their image processors; and DINOv2s from ONNX files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

import workbench as wb
from tests.conformance.vision_zoo import DINO, LABELS, SIZES, TEXT, TOKENS, outputs, pixels
from workbench.errors import UnsupportedModel, UntrustedModel
from workbench.io import onnx_tensors
from workbench.models import catalog
from workbench.models.sources import onnx_file


def saved(model: Any, folder: Path) -> Path:
    model.eval().save_pretrained(str(folder))
    return folder


@pytest.mark.filterwarnings("ignore:SiglipVisionModel. its pooling head:UserWarning")
@pytest.mark.parametrize(
    ("hf", "part", "name"),
    [
        (lambda: t.ViTForImageClassification(t.ViTConfig(**SIZES, **LABELS)), "", "ViTForImageClassification"),
        (lambda: t.ViTModel(t.ViTConfig(**SIZES), add_pooling_layer=False), "", "ViTModel"),
        (lambda: t.ViTForMaskedImageModeling(t.ViTConfig(**SIZES)), "vit", "ViTModel"),
        (lambda: t.Dinov2Model(t.Dinov2Config(**DINO)), "", "Dinov2Model"),
        (lambda: t.CLIPModel(t.CLIPConfig(vision_config=SIZES, text_config=TEXT | TOKENS, projection_dim=24)), "", ""),
        (
            lambda: t.SiglipModel(t.SiglipConfig(vision_config=SIZES, text_config=TEXT | TOKENS)),
            "vision_model",
            "SiglipVisionModel",
        ),
    ],
)
def test_a_directory_is_loaded_as_a_vision_model(tmp_path: Path, hf: Any, part: str, name: str) -> None:
    torch.manual_seed(0)
    original = hf()
    folder = saved(original, tmp_path / "model")
    assert catalog.modality_of(str(folder)) == "vision"
    model, images = wb.load(str(folder)), pixels(2, 2)
    assert isinstance(model, wb.HookedViT) and model.processor is None
    if part or name:
        assert type(model.hf).__name__ == name
        expected = outputs(original.get_submodule(part) if part else original, images)
    else:
        assert type(model.hf).__name__ == "CLIPVisionModelWithProjection" and model.feature == "projection"
        with torch.no_grad():
            expected = original.get_image_features(pixel_values=images)
        expected = getattr(expected, "pooler_output", expected)
    assert torch.allclose(model(images), expected, atol=1e-6)


@pytest.mark.parametrize(
    "kind", ["ViTImageProcessor", "BitImageProcessor", "CLIPImageProcessorFast", "DINOv3ViTImageProcessorFast"]
)
def test_the_image_processor_is_the_one_that_works_with_pil(tmp_path: Path, kind: str) -> None:
    folder = saved(t.ViTForImageClassification(t.ViTConfig(**SIZES, **LABELS)), tmp_path / "model")
    size = {"height": 16, "width": 16}
    settings = {
        "size": size,
        "crop_size": size,
        "do_center_crop": False,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": kind, **settings}))
    model = wb.load(str(folder))
    assert model.processor.backend == "pil"
    white = np.full((16, 16, 3), 255, np.uint8)
    made = model.processor(white, return_tensors="pt")["pixel_values"]
    assert torch.allclose(made, torch.ones(1, 3, 16, 16))
    assert model(made).shape == (1, 7)


def test_an_image_processor_that_would_run_code_is_refused(tmp_path: Path) -> None:
    folder = saved(t.ViTModel(t.ViTConfig(**SIZES)), tmp_path / "model")
    (folder / "preprocessor_config.json").write_text('{"auto_map": {"AutoImageProcessor": "code.Mine"}}')
    with pytest.raises(UntrustedModel, match="auto_map"):
        wb.load(str(folder))
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "NoSuchProcessor"}')
    with pytest.raises(UnsupportedModel, match="the image processor cannot be loaded"):
        wb.load(str(folder))


# --- ONNX


def onnx_of(model: t.Dinov2Model, path: Path) -> Any:
    """A file as PyTorch exports it: vectors by name, matrices transposed and named by their product alone."""
    message = onnx_tensors.model_class()()
    back = {new: old for old, new in onnx_file._RENAMED}

    def add(name: str, x: torch.Tensor) -> None:
        array = x.numpy().astype("<f4")
        message.graph.initializer.add(name=name, dims=array.shape, data_type=1, raw_data=array.tobytes())

    for name, x in model.state_dict().items():
        for new, old in back.items():
            name = name.replace(new, old)
        if name == "embeddings.position_embeddings":
            add("/backbone/embeddings/Slice", x[:, :1])
            add("/backbone/embeddings/Resize", x[:, 1:])
        elif x.ndim == 2 and name.startswith("encoder"):
            number = f"onnx::MatMul_{len(message.graph.initializer)}"
            place = name.removeprefix("encoder.layer.").removesuffix(".weight")
            layer, _, part = place.partition(".")
            message.graph.node.add(
                name=f"/backbone/encoder/layer.{layer}/{part.replace('.', '/')}/MatMul",
                op_type="MatMul",
                input=["x", number],
            )
            add(number, x.T.contiguous())
        else:
            add(f"backbone.{name}", x)
    path.write_bytes(message.SerializeToString())
    return message


@pytest.fixture
def dinov2() -> t.Dinov2Model:
    torch.manual_seed(0)
    config = t.Dinov2Config(**{**DINO, "hidden_size": 128, "num_attention_heads": 2}, use_mask_token=False)
    return t.Dinov2Model(config).eval()


def test_a_dinov2_is_read_from_an_onnx_file(dinov2: t.Dinov2Model, tmp_path: Path) -> None:
    onnx_of(dinov2, tmp_path / "model.onnx")
    (tmp_path / "made").mkdir()
    origin = onnx_file.convert(tmp_path / "model.onnx", tmp_path / "made", "0" * 64, lambda *_: None)
    assert origin["origin"]["sha256"] == "0" * 64
    model, images = wb.load(str(tmp_path / "made")), pixels(2, 2)
    assert torch.equal(model(images), outputs(dinov2, images))
    assert model.processor.backend == "pil"


def test_other_onnx_files_are_refused(dinov2: t.Dinov2Model, tmp_path: Path) -> None:
    path, target = tmp_path / "model.onnx", tmp_path / "made"
    target.mkdir()

    def refused(message: str) -> None:
        with pytest.raises(UntrustedModel, match=message):
            onnx_file.convert(path, target, "0" * 64, lambda *_: None)
        assert not list(target.iterdir())

    path.write_bytes(b"\x00 no message")
    refused("not a readable ONNX file")
    path.write_bytes(b"")
    refused("it holds no constants")
    whole = onnx_of(dinov2, path)
    whole.graph.initializer[3].data_location = 1
    path.write_bytes(whole.SerializeToString())
    refused("lie in another file")
    whole = onnx_of(dinov2, path)
    whole.graph.initializer[3].raw_data = b"1234"
    path.write_bytes(whole.SerializeToString())
    refused("has 4 bytes")
    whole = onnx_of(dinov2, path)
    whole.graph.node[0].name = "/another/MatMul"
    path.write_bytes(whole.SerializeToString())
    refused(r"encoder.layer.0.attention.q_proj.weight is missing, expected \(128, 128\)")
