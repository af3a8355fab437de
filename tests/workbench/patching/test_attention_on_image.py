"""The patterns of a layer's heads on an image, against Hugging Face's own."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2ForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

import workbench as wb
from tests.small_vit import PATCH, SIDE, pictures, small_vit
from workbench.errors import UnknownName, UsageError
from workbench.plotting import matplotlib_charts


def eager(model: wb.HookedViT, images: wb.Images) -> list[np.ndarray]:
    """``[head, dest, src]`` of each layer, from Hugging Face and its own image processor."""
    pixels = model.processor(images.images(), return_tensors="pt")["pixel_values"]
    model.hf.set_attn_implementation("eager")
    with torch.no_grad():
        patterns = model.hf(pixels, output_attentions=True).attentions
    model.hf.set_attn_implementation("sdpa")
    return [pattern[0].numpy() for pattern in patterns]


def test_the_pattern_is_hugging_faces_and_the_picture_is_what_the_model_sees() -> None:
    model, image = small_vit(), wb.images(pictures(1))
    expected = eager(model, image)
    (original,) = image.images()
    resized = np.asarray(original.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    for layer in range(model.n_layers):
        seen = wb.attention_on_image(model, image, layer, cache=False)
        np.testing.assert_allclose(seen.pattern, expected[layer], atol=1e-5)
        np.testing.assert_array_equal(seen.pixels, resized)
        assert seen.grid == (SIDE // PATCH, SIDE // PATCH) and seen.is_shares and seen.layer == layer


def test_a_patch_is_at_its_row_and_column() -> None:
    model, image = small_vit(), wb.images(pictures(1))
    expected = eager(model, image)[1][2]
    seen = wb.attention_on_image(model, image, layer=1, cache=False)
    table = seen.table(2, "1,2").set_index("position")
    for row, column in ((0, 0), (3, 1)):  # position = 1 + row · columns + column
        weight = expected[1 + 1 * 4 + 2, 1 + row * 4 + column]
        np.testing.assert_allclose(seen.patches(2, "1,2")[row, column], weight, atol=1e-5)
        entry = table.loc[f"{row},{column}"]
        assert (entry["row"], entry["column"]) == (row, column)
        np.testing.assert_allclose(entry["weight"], weight, atol=1e-5)
    np.testing.assert_allclose(table.loc["cls", "weight"], expected[7, 0], atol=1e-5)
    np.testing.assert_allclose(seen.weights(2, "cls"), expected[0], atol=1e-5)
    assert table.loc["cls", ["row", "column"]].isna().all() and seen.index("1,2") == 7


def test_what_is_left_over_at_the_edges_is_not_in_the_picture() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = Dinov2Config(**sizes, image_size=14, patch_size=4)
    processor = ViTImageProcessorPil(size={"height": 14, "width": 14})
    model = wb.HookedViT(Dinov2ForImageClassification(config).eval(), processor)
    picture = np.random.default_rng(0).integers(0, 256, (14, 14, 3), dtype=np.uint8)
    seen = wb.attention_on_image(model, wb.images([picture]), 0, cache=False)
    assert seen.grid == (3, 3)
    np.testing.assert_array_equal(seen.pixels, picture[:12, :12])


def test_entries_of_an_operators_matrix_are_not_called_weights() -> None:
    model, picture = wb.load("mnist-vit-reversed"), np.arange(784, dtype=np.uint8).reshape(28, 28)
    seen = wb.attention_on_image(model, wb.images([picture]), 0, cache=False)
    assert seen.pattern.sum(-1).max() > 1.5 and not seen.is_shares
    assert seen.units == "entry of the operator's matrix"


def test_the_picture_has_the_map_with_its_values() -> None:
    seen = wb.attention_on_image(small_vit(), wb.images(pictures(1)), 0, cache=False)
    figure = seen.picture(3, "2,1")
    _, mapped = figure.axes[:2]
    np.testing.assert_array_equal(mapped.images[1].get_array(), seen.patches(3, "2,1"))
    frame: Any = mapped.patches[0]
    assert (frame.get_x(), frame.get_y()) == (0.5, 1.5)  # column 1, row 2
    assert Image.open(io.BytesIO(matplotlib_charts.image(figure, "png", 40))).size[0] > 100
    assert not seen.picture(3, "cls").axes[0].patches


def test_refusals() -> None:
    model, images = small_vit(), wb.images(pictures(2))
    with pytest.raises(UsageError, match="images with one image"):
        wb.attention_on_image(model, images, 0)
    with pytest.raises(UsageError, match=r"^model=.*a vision model"):
        wb.attention_on_image(wb.load("tiny"), images.of([0]), 0)
    with pytest.raises(UsageError, match=r"^layer=3"):
        wb.attention_on_image(model, images.of([0]), 3)
    seen = wb.attention_on_image(model, images.of([0]), 0, cache=False)
    with pytest.raises(UnknownName, match="4,0"):
        seen.weights(0, "4,0")


def test_the_picture_names_the_model_and_whole_patches() -> None:
    model, images = wb.load("digits-vit"), wb.images(list(np.arange(128, dtype=np.uint8).reshape(2, 8, 8)))
    seen = wb.attention_on_image(model, images.of([0]), 1, cache=False)
    figure = seen.picture(2, "1,1")
    figure.draw_without_rendering()
    assert figure.get_suptitle() == "digits-vit · Head 1.2 on image 0, from 1,1"
    for axes in figure.axes[:2]:
        for axis in (axes.xaxis, axes.yaxis):
            assert [label.get_text() for label in axis.get_ticklabels()] == ["0", "1", "2", "3"]
    assert repr(seen) == "<attention of 4 heads of layer 1 of digits-vit on image 0, 17 positions>"
