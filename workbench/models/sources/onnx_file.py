"""ONNX files that hold a DINOv2: their weights become an ordinary model directory. No graph is run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UntrustedModel
from workbench.io import onnx_tensors, trust
from workbench.models.building import building_a_model

if TYPE_CHECKING:
    import numpy as np

Progress = Callable[[int, int, str], None]
#: Names in the file → transformers' names, in order.
_RENAMED = (
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"),
)
_PREFIX = "backbone."
#: The width of a head in every DINOv2.
_HEAD = 64
#: DINOv2's own: the shorter side to 256 pixels, the middle 224 × 224, ImageNet's mean and standard deviation.
_PROCESSOR = {
    "image_processor_type": "BitImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def convert(file: Path, target: Path, digest: str, progress: Progress) -> dict[str, Any]:
    """Write the DINOv2 inside an ONNX file into `target`: model.safetensors, config.json and preprocessor_config.json.

    Returns:
        What ``source.json`` says about the origin: file, its SHA-256 and the versions that converted it.

    Raises:
        UntrustedModel: no ONNX file, or the tensors in it are not those of a DINOv2.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import Dinov2Config, Dinov2Model

    progress(0, 0, f"reading the weights in {file.name}")
    state = dinov2_state(onnx_tensors.read(file), file.name)
    config = Dinov2Config(**_settings(state, file.name), use_mask_token=False)
    with building_a_model(), torch.device("meta"):
        expected = {name: tuple(x.shape) for name, x in Dinov2Model(config).state_dict().items()}
    for name in sorted(expected.keys() | state.keys()):
        shape, required = state[name].shape if name in state else None, expected.get(name)
        if shape != required:
            wrong = f"{name} is {shape or 'missing'}, expected {required or 'no such tensor'}"
            raise UntrustedModel(f"{file.name}: {wrong}.")
    save_file({name: torch.from_numpy(x.copy()) for name, x in state.items()}, target / trust.WEIGHTS)
    settings = {**config.to_dict(), "architectures": ["Dinov2Model"]}
    for name, document in (("config.json", settings), ("preprocessor_config.json", _PROCESSOR)):
        (target / name).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return {
        "origin": {"file": file.name, "sha256": digest, "bytes": file.stat().st_size},
        "converted": {name: version(name) for name in ("transformers", "torch", "protobuf")},
    }


def dinov2_state(onnx: onnx_tensors.Onnx, where: object) -> dict[str, np.ndarray]:
    """The tensors by transformers' names. Exporters keep the names of vectors; a matrix, which they transpose, has that
    of its product; the positions of the class token and of the patches are two constants."""
    import numpy as np

    state = {}
    for name, x in onnx.tensors.items():
        if name.startswith(_PREFIX):
            state[_renamed(name.removeprefix(_PREFIX))] = x
    for product, name in onnx.products.items():
        if place := re.search(r"layer\.(\d+)/(.+)/MatMul$", product):
            state[_renamed(f"encoder.layer.{place[1]}.{place[2].replace('/', '.')}.weight")] = onnx.tensors[name].T
    width = state["embeddings.cls_token"].shape[-1] if "embeddings.cls_token" in state else 0
    others = [x for name, x in onnx.tensors.items() if not name.startswith(_PREFIX) and x.ndim == 3]
    places = sorted((x for x in others if x.shape[0] == 1 and x.shape[2] == width), key=lambda x: x.shape[1])
    if len(places) != 2 or places[0].shape[1] != 1:
        raise UntrustedModel(f"{where} does not hold the weights of a DINOv2: its positions were not found.")
    state.pop("embeddings.mask_token", None)  # of training alone
    return {**state, "embeddings.position_embeddings": np.concatenate(places, 1)}


def _renamed(name: str) -> str:
    for old, new in _RENAMED:
        name = name.replace(old, new)
    return name


def _settings(state: Mapping[str, np.ndarray], where: object) -> dict[str, Any]:
    """The sizes that the tensors have."""
    try:
        width, channels, patch, _ = state["embeddings.patch_embeddings.projection.weight"].shape
        inner = state["encoder.layer.0.mlp.fc1.weight"].shape[0]
    except (KeyError, ValueError):
        raise UntrustedModel(f"{where} does not hold the weights of a DINOv2.") from None
    layers = {int(layer[1]) for name in state if (layer := re.match(r"encoder\.layer\.(\d+)\.", name))}
    side = round((state["embeddings.position_embeddings"].shape[1] - 1) ** 0.5)
    return {
        "hidden_size": width,
        "num_hidden_layers": max(layers) + 1,
        "num_attention_heads": width // _HEAD,
        "mlp_ratio": inner // width,
        "num_channels": channels,
        "patch_size": patch,
        "image_size": side * patch,
    }
