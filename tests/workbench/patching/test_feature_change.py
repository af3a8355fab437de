"""How alike features are before and after edits, in float64 from Hugging Face's model with a plain hook."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from tests.small_vit import pictures, small_vit
from workbench.errors import UsageError


@pytest.fixture(scope="module")
def encoder() -> Any:
    classifier = small_vit()
    return wb.HookedViT(classifier.hf.vit, classifier.processor)


def feature(model: Any, pixels: torch.Tensor, zeroed: tuple[int, int] | None = None) -> np.ndarray:
    """The class token after the last norm, with z of a head at zero."""

    layer, head = zeroed or (0, None)

    def before(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        z = args[0].unflatten(-1, (model.n_heads, -1)).clone()
        z[:, :, head] = 0
        return (z.flatten(-2), *args[1:])

    handles = []
    if head is not None:
        handles.append(model.hf.layers[layer].attention.o_proj.register_forward_pre_hook(before))
    try:
        with torch.no_grad():
            output = model.hf(pixels)
    finally:
        for handle in handles:
            handle.remove()
    return (output.last_hidden_state[:, 0] if model.feature == "cls" else output.pooler_output)[0].double().numpy()


@pytest.mark.parametrize("base", ["clean", "corrupt"])
def test_cosines_and_distances_are_numpys(encoder: Any, base: str) -> None:
    clean, corrupt = (wb.images(pictures(1, seed=seed)) for seed in (0, 1))
    pairs = clean.paired_with(corrupt)
    change = wb.feature_change(encoder, pairs, [wb.Edit("z", 1, head=2, kind="zero")], base=base, cache=False)
    pixels = {
        name: encoder.processor(images.images(), return_tensors="pt")["pixel_values"]
        for name, images in (("clean", clean), ("corrupt", corrupt))
    }
    before, after = feature(encoder, pixels[base]), feature(encoder, pixels[base], (1, 2))
    assert np.linalg.norm(before - after) > 1e-3
    assert change["to"].tolist() == ["clean", "corrupt"] and change["input"].tolist() == [0, 0]
    for row in change.to_dict("records"):
        g = feature(encoder, pixels[str(row["to"])])
        for name, f in (("before", before), ("after", after)):
            assert row[f"cosine_{name}"] == pytest.approx(f @ g / np.linalg.norm(f) / np.linalg.norm(g), abs=1e-5)
            assert row[f"distance_{name}"] == pytest.approx(np.linalg.norm(f - g), abs=1e-4)


def test_images_without_corrupt_ones_have_rows_for_the_clean_one_and_classes_are_refused(encoder: Any) -> None:
    edit = [wb.Edit("z", 1, head=2, kind="zero")]
    change = wb.feature_change(encoder, wb.images(pictures(2)), edit, cache=False)
    assert change["to"].tolist() == ["clean", "clean"] and change["distance_before"].tolist() == [0, 0]
    with pytest.raises(UsageError, match="outputs are logits"):
        wb.feature_change(small_vit(), wb.images(pictures(1)), edit)


def test_an_outcome_of_the_corrupt_run_has_no_metric_that_compares_with_the_clean_one(encoder: Any) -> None:
    pairs = wb.images(pictures(1, seed=0)).paired_with(wb.images(pictures(1, seed=1)))
    edit = [wb.Edit("z", 1, head=2, kind="zero")]
    assert wb.run(encoder, pairs, edit, cache=False).scores("feature_cosine").shape == (1,)
    with pytest.raises(UsageError, match="clean run"):
        wb.run(encoder, pairs, edit, base="corrupt", cache=False).scores("feature_cosine")


def test_images_alone_are_recorded_once_and_not_patched(encoder: Any) -> None:
    images = wb.images(pictures(2))
    assert wb.record(encoder, images, cache=False).corrupt is None
    assert wb.estimate(encoder, images, cache=False).runs == 2
    with pytest.raises(UsageError, match=r"single inputs have no other run. To patch, use images.corrupted"):
        wb.sweep(encoder, images, metric="feature_cosine", cache=False)
    with pytest.raises(UsageError, match=r"single inputs have no other run. To patch, use images.corrupted"):
        wb.run(encoder, images, [wb.Edit("z", 1, head=2, kind="patch")], cache=False)
