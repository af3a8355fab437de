"""Images as positions, what a vision model says of itself, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

import workbench as wb
from tests.conformance.vision_zoo import DINO, LABELS, SIZES, TEXT, TOKENS, first_two, image_pairs, make, pixels
from workbench.errors import UnsupportedModel, UsageError
from workbench.models.patches import Patches


@pytest.fixture(scope="module")
def model() -> wb.HookedViT:
    return wb.HookedViT(make("ViT classifier"))


def test_a_patch_is_its_pixels_in_torchs_order() -> None:
    patches = Patches(size=(4, 2), channels=3, image=(8, 6), added=2)
    images = torch.randn(2, 3, 8, 6)
    inputs = patches.to_inputs(images)
    unfolded = torch.nn.functional.unfold(images, (4, 2), stride=(4, 2)).mT
    assert torch.equal(inputs[:, 2:], unfolded) and not inputs[:, :2].any()
    assert torch.equal(patches.to_pixels(inputs), images)


def test_pixels_that_no_patch_holds_are_not_read() -> None:
    """As of SigLIP at 384 pixels with patches of 14."""
    config = t.SiglipVisionConfig(**{**SIZES, "image_size": 18}, vision_use_head=False)
    hf = t.SiglipVisionModel(config).eval().requires_grad_(False)
    model, images = wb.HookedViT(hf), pixels(2, 2, 18)
    inputs = model.pixels_to_inputs(images)
    assert inputs.shape == (2, 16, 48) and model.patch_grid(16) == (4, 4)
    back = model.inputs_to_pixels(inputs)
    assert back.shape == images.shape and torch.equal(back[:, :, :16, :16], images[:, :, :16, :16])
    assert torch.equal(model(images), hf(pixel_values=images).last_hidden_state.mean(1))


def test_a_grid_that_is_no_square() -> None:
    config = t.ViTConfig(**{**SIZES, "image_size": (8, 16)}, **LABELS)
    hf = t.ViTForImageClassification(config).eval().requires_grad_(False)
    model, images = wb.HookedViT(hf), torch.randn(2, 3, 8, 16)
    assert model.patch_grid(9) == (2, 4) and model.labels(model.pixels_to_inputs(images)[0])[-1] == "1,3"
    assert torch.equal(model(images), hf(pixel_values=images).logits)


def test_classes_have_their_names(model: wb.HookedViT) -> None:
    assert model.output_names == tuple(f"LABEL_{i}" for i in range(7)) and model.outputs_are == "logits"
    config = t.CLIPConfig(vision_config=SIZES, text_config=TEXT | TOKENS, id2label={0: "cat", 1: "dog", 2: "owl"})
    clip = wb.HookedViT(t.CLIPForImageClassification(config).eval())
    assert clip.output_names == ("cat", "dog", "owl")
    assert wb.HookedViT(make("DINOv2")).output_names == tuple(map(str, range(32)))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 1, 16, 16), "these have 1 channels"),
        (torch.zeros(2, 3, 20, 20), "of 16 × 16 pixels, because these have 20 × 20 pixels"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "a tensor of floating-point numbers"),
        (torch.full((1, 3, 16, 16), torch.nan), "expected finite numbers"),
        (torch.zeros(0, 3, 16, 16), "a tensor of floating-point numbers"),
    ],
)
def test_images_that_the_model_does_not_take(model: wb.HookedViT, images: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        model.pixels_to_inputs(images)


def test_images_of_other_sizes_are_squares() -> None:
    model = wb.HookedViT(make("DINOv2"))
    with pytest.raises(UsageError, match="of 16 × 16 pixels, or squares of another size from 4 × 4 on"):
        model.pixels_to_inputs(torch.zeros(1, 3, 16, 24))
    with pytest.raises(UsageError, match=r"n_positions=12: expected 17 \(1 \+ 4 × 4 patches\), or with another square"):
        model.patch_grid(12)


def test_inputs_that_are_none(model: wb.HookedViT) -> None:
    clean, _, inputs = image_pairs(model)
    rows = [row.clone() for row in inputs.clean]
    rows[1][0, 5] = 1
    answers = ((0,),) * 3, ((1,),) * 3
    with pytest.raises(UsageError, match=r"clean\[1\].*zeros in the first 1 positions.*its own tokens there \(cls\)"):
        wb.sweep(model, wb.PairedInputs("x", tuple(rows), inputs.corrupt, *answers), cache=False)
    short = tuple(row[:-1] for row in inputs.clean), tuple(row[:-1] for row in inputs.corrupt)
    with pytest.raises(UsageError, match=r"clean\[0\].*an input of 16 × 16 pixels"):
        wb.sweep(model, wb.PairedInputs("x", *short, *answers), cache=False)
    with pytest.raises(UsageError, match="answers from 0 to 6"):
        wb.sweep(model, wb.PairedInputs("x", inputs.clean, inputs.corrupt, ((7,),) * 3, answers[1]), cache=False)
    with pytest.raises(UsageError, match="position='nose': expected one of"):
        wb.run(model, inputs, [wb.Edit("z", 0, head=0, position="nose")], cache=False)
    assert model(clean).shape == (3, 7)


def test_what_is_out_of_reach_says_so_in_one_line() -> None:
    swin = t.SwinConfig(image_size=16, patch_size=2, embed_dim=16, depths=[1, 1], num_heads=[2, 4], window_size=2)
    cases = {
        "it attends within windows, which it folds into the batch": t.SwinForImageClassification(swin),
        "neither a classifier .* wb.HookedViT\\(hf.vit\\)": t.ViTForMaskedImageModeling(t.ViTConfig(**SIZES)),
        "neither a classifier .* wb.HookedViT\\(hf.vision_model\\)": t.CLIPModel(
            t.CLIPConfig(vision_config=SIZES, text_config=TEXT | TOKENS)
        ),
        "Dinov2Backbone is neither": t.Dinov2Backbone(t.Dinov2Config(**DINO)),
        "is of no family that HookedViT knows": t.ViTMAEModel(t.ViTMAEConfig(**SIZES)),
    }
    for message, hf in cases.items():
        with pytest.raises(UnsupportedModel, match=message) as error:
            wb.HookedViT(hf.eval())
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match=r"hf=.*expected a Hugging Face vision transformer"):
        wb.HookedViT(torch.nn.Linear(1, 1))
    with pytest.raises(UsageError, match=r"processor=.*expected a Hugging Face image processor, or None"):
        wb.HookedViT(make("ViT"), processor="vit")


def test_a_region_is_each_of_its_positions_once(model: wb.HookedViT) -> None:
    inputs = image_pairs(model)[2]
    own = wb.PairedInputs("x", inputs.clean, inputs.corrupt, regions=({"object": (6, 7)},) * 3)
    options: dict[str, Any] = {"metric": first_two, "direction": "noise", "cache": False, "edit": "scale", "factor": 2}
    of_region = wb.sweep(model, own, positions=["object", "1,1", 6], **options).values
    assert np.array_equal(of_region, wb.sweep(model, own, positions=[6, 7], **options).values)
    looks = {"site": "pattern", "edit": "pattern", "metric": first_two, "cache": False}
    by_name, by_index = (wb.sweep(model, own, attend_to=to, **looks).values for to in (["cls", "object"], [0, 6, 7]))
    assert np.array_equal(by_name, by_index)
    for regions, message in (
        ({"object": (6, 17)}, r"regions\[0\]\['object'\].*positions from 0 to 16"),
        ({"object": ()}, "at least one position"),
    ):
        with pytest.raises(UsageError, match=message):
            wb.PairedInputs("x", inputs.clean, inputs.corrupt, regions=(regions,) * 3)
    with pytest.raises(UsageError, match="names of its own"):
        wb.PairedInputs("x", inputs.clean, inputs.corrupt, positions=({"a": 1},) * 3, regions=({"a": (2, 3)},) * 3)
