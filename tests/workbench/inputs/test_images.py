"""Images against what transformers' own image processor makes of them, and all that is refused."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

import workbench as wb
from tests.small_vit import NAMES, SIDE, pictures, small_vit
from workbench.errors import BadInput, UnknownName, UsageError, WorkbenchError
from workbench.plotting.source import Source

MODEL = small_vit()


def processed(images: Any, **settings: Any) -> torch.Tensor:
    return MODEL.processor(images=images, return_tensors="pt", **settings)["pixel_values"]


def pixels_of(images: wb.Images) -> torch.Tensor:
    return MODEL.inputs_to_pixels(torch.stack(images.inputs(MODEL).clean))


# --- what comes in


def test_every_form_of_a_picture_gives_what_the_image_processor_gives(tmp_path: Path) -> None:
    arrays = pictures(3)
    images = [Image.fromarray(array) for array in arrays]
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.png")
    expected = processed(images)
    assert torch.equal(pixels_of(wb.images(images)), expected)
    assert torch.equal(pixels_of(wb.images(arrays)), expected)
    assert torch.equal(pixels_of(wb.images(np.stack(arrays))), expected)
    assert torch.equal(pixels_of(wb.images([torch.tensor(array).permute(2, 0, 1) for array in arrays])), expected)
    assert torch.equal(pixels_of(wb.images([array / 255 for array in arrays])), expected)
    assert torch.equal(pixels_of(wb.images([tmp_path / f"{i}.png" for i in range(3)])), expected)
    assert torch.equal(pixels_of(wb.images(str(tmp_path))), expected)


def test_columns_of_a_dataset_are_images_and_classes() -> None:
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageColumn

    arrays = pictures(3)
    features = Features({"image": ImageColumn(), "label": ClassLabel(names=list(NAMES))})
    rows = {"image": [Image.fromarray(array) for array in arrays], "label": [4, 0, 2]}
    dataset = Dataset.from_dict(rows, features=features)
    images = wb.images(dataset["image"], answer=dataset["label"])
    assert torch.equal(pixels_of(images), processed(arrays))
    assert images.inputs(MODEL).answer == ((4,), (0,), (2,))
    undecoded = dataset.cast_column("image", ImageColumn(decode=False))
    assert torch.equal(pixels_of(wb.images(undecoded["image"])), processed(arrays))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "RGBA", "LA"])
def test_other_modes_of_pillow_become_rgb_as_pillow_does_it(mode: str) -> None:
    image = Image.fromarray(pictures(1)[0]).convert(mode)
    assert torch.equal(pixels_of(wb.images([image])), processed([image.convert("RGB")]))


def test_photos_are_turned_as_their_exif_data_say(tmp_path: Path) -> None:
    image = Image.fromarray(pictures(1, 32, 20)[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as stored:
        upright = ImageOps.exif_transpose(stored)
        assert upright.size == (32, 20) and torch.equal(
            pixels_of(wb.images(tmp_path / "turned.png")), processed(upright)
        )


def test_grey_images_are_for_models_of_one_channel_as_they_are() -> None:
    model, array = small_vit(channels=1), np.arange(SIDE**2, dtype=np.uint8).reshape(SIDE, SIDE)
    inputs = wb.images([array]).inputs(model)
    assert torch.allclose(model.inputs_to_pixels(inputs.clean[0][None])[0, 0], torch.tensor(array) / 127.5 - 1)


def test_a_result_says_which_files_and_which_processor(tmp_path: Path) -> None:
    Image.fromarray(pictures(1)[0]).save(tmp_path / "cat.png")
    images = wb.images([tmp_path / "cat.png", pictures(2)[1]], answer=["owl", 1], wrong=["crab", "newt"], name="zoo")
    sweep = wb.sweep(MODEL, images, edit="zero", cache=False)
    inputs = sweep.info["inputs"]
    assert sweep.info["task"] == "zoo" and str(tmp_path) not in str(sweep.info)
    assert inputs["examples"][0]["clean"]["name"] == "cat.png"
    assert inputs["examples"][0]["clean"]["sha256"] == hashlib.sha256((tmp_path / "cat.png").read_bytes()).hexdigest()
    assert inputs["processor"]["size"] == {"height": SIDE, "width": SIDE}
    second = MODEL.output_names[1]
    classes = [[example["clean"][which] for which in ("answer", "wrong")] for example in inputs["examples"]]
    assert classes == [[["owl"], ["crab"]], [[second], ["newt"]]] and "answer" not in inputs["examples"][0]["corrupt"]
    table = pd.read_csv(io.BytesIO(Source.of_info(sweep.info).csv(sweep.table())))
    assert table[["answer", "wrong answer"]].drop_duplicates().values.tolist() == [[f"owl, {second}", "crab, newt"]]
    assert [example["clean"]["name"] for example in sweep.of([1]).info["inputs"]["examples"]] == ["image 1"]


def test_another_setting_of_the_processor_is_another_key(tmp_path: Path) -> None:
    images = wb.images(pictures(2), answer=[0, 1], wrong=[1, 0])
    first = wb.sweep(MODEL, images, edit="zero", cache=tmp_path)
    darker = small_vit()
    darker.processor.image_mean = [0.9] * 3
    second = wb.sweep(darker, images, edit="zero", cache=tmp_path)
    uncached = wb.sweep(darker, images, edit="zero", cache=False)
    assert np.abs(first.values - second.values).max() > 1e-2
    assert np.array_equal(second.values, uncached.values)


def test_images_as_seen_by_the_model_give_the_same_numbers() -> None:
    images = wb.images(pictures(3, 30, 17))
    seen = images.as_seen_by(MODEL)
    assert {image.size for image in seen.images()} == {(SIDE, SIDE)}
    assert torch.equal(pixels_of(seen), pixels_of(images)) and seen.as_seen_by(MODEL) is seen
    other = small_vit()
    other.processor.image_std = [0.2] * 3
    with pytest.raises(UsageError, match="another image processor made the images its size"):
        seen.inputs(other)


def test_the_models_own_likeliest_classes_are_answers() -> None:
    images = wb.images(pictures(4))
    with torch.no_grad():
        logits = MODEL.hf(pixel_values=processed(pictures(4))).logits
    best = logits.topk(2).indices.tolist()
    answered = images.answered_by(MODEL)
    assert [[*a, *w] for a, w in zip(answered.answer, answered.wrong, strict=True)] == best


def test_images_can_be_looked_at() -> None:
    images = wb.images(pictures(3))
    assert [np.asarray(image).tolist() for image in images.images()] == [array.tolist() for array in pictures(3)]
    sheet = np.asarray(images.show(2))
    assert sheet[:120:5, :100:5].tolist() == pictures(1)[0].tolist()  # each pixel five times as large


# --- what is refused, in one line


def png(image: Image.Image, **settings: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, settings.pop("format", "PNG"), **settings)
    return data.getvalue()


GREY = Image.new("L", (8, 8), 99)
CLEAR = Image.new("RGBA", (8, 8), (1, 2, 3, 99))
FILES: dict[str, tuple[bytes, str]] = {
    "no_image.png": (b"nonsense", "not an image that can be read"),
    "empty.png": (b"", "not an image that can be read"),
    "cut.png": (png(Image.fromarray(pictures(1)[0]))[:90], "the file is damaged"),
    "animated.gif": (png(GREY, format="GIF", save_all=True, append_images=[Image.new("L", (8, 8))]), "2 frames"),
    "clear.png": (png(CLEAR), "parts of it are transparent"),
    "deep.png": (png(Image.new("I;16", (8, 8), 999)), "not of 8 bits"),
    "vector.eps": (png(GREY.convert("RGB"), format="EPS"), "not an image that can be read"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_picture_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    data, reason = FILES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=f"^{name}: .*{reason}") as error:
        wb.images([tmp_path / name])
    assert "\n" not in str(error.value)


def test_every_way_of_cutting_a_file_is_refused_or_gives_a_picture(tmp_path: Path) -> None:
    whole = png(Image.fromarray(pictures(1)[0]), format="TIFF")
    for end in range(0, len(whole), 97):
        (tmp_path / "cut.tif").write_bytes(whole[:end])
        try:
            assert len(wb.images(tmp_path / "cut.tif")) == 1
        except BadInput as error:
            assert str(error).startswith("cut.tif: ")


def test_too_many_pixels_are_refused_before_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(png(Image.new("1", (20_000, 20_000))))
    with pytest.raises(BadInput, match=r"large.png: (20000 × 20000 pixels, )?more than 50 million"):
        wb.images(tmp_path / "large.png")


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((8, 8), 16.0), "these are from 16 to 16. Divide by the largest"),
        (np.full((8, 8), -0.1), "because these are from -0.1 to -0.1. Undo the normalisation"),
        (np.full((8, 8), np.nan), r"shape \(8, 8\)>: .*, because 64 of 64 are NaN or infinite"),
        (np.full((8, 8), 3), "because these are of int64"),
        (np.zeros((8, 8, 4), dtype=np.uint8), "with 1 or 3 channels"),
        (np.zeros((2, 8, 8, 3), dtype=np.uint8), "with 1 or 3 channels"),
        (np.zeros((0, 8), dtype=np.uint8), r"\[row, column\]"),
        (np.full((8, 8), "a"), "because these are of <U1"),
        (object(), "a path, a PIL image, or an array"),
    ],
)
def test_numbers_of_another_shape_or_range_are_refused(array: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=rf"^images\[1\]=.*{reason}"):
        wb.images([np.zeros((8, 8), dtype=np.uint8), array])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: wb.images([]), r"^images=\[\]: expected .*at least one"),
        (lambda: wb.images("nowhere.png"), r"^nowhere.png: no such file. Check the path"),
        (lambda: wb.images(np.zeros((8, 8))), r"^images=<ndarray of shape \(8, 8\)>: .* Write \[array\]"),
        (lambda: wb.images(pictures(2), answer=[1]), r"^answer=\[1\]: .*because there are 2 images"),
        (lambda: wb.images(pictures(1), answer=[1], wrong=[1]), r"^image 0: 1 is both the answer and wrong"),
        (lambda: wb.images(pictures(1), answer=["lyon"]).inputs(MODEL), r"^answer='lyon': .*Did you mean 'lion'"),
        (lambda: wb.images(pictures(1), answer=["q"]).inputs(MODEL), r"^answer='q': .*Its classes: .*owl"),
        (lambda: wb.images(pictures(1), answer=[5]).inputs(MODEL), r"^answer=5: expected a class from 0 to 4"),
        (lambda: wb.images(pictures(1)).inputs(small_vit(1)), r"^image 0: an image of 3 channels, and .* takes 1"),
        (lambda: wb.images(pictures(1)).inputs(wb.load("tiny")), r"^model=.*: expected a vision model"),
        (lambda: wb.scores_on(wb.load("tiny"), wb.images(pictures(1))), r"^prompts=<Images>: expected a task"),
        (lambda: wb.record(MODEL, "a text"), r"^task='a text': expected .*images"),
        (lambda: wb.sweep(MODEL, wb.images(pictures(1))), r"^task=.*expected pairs with answers.*answered_by\(model\)"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(WorkbenchError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_an_unknown_class_is_an_unknown_name() -> None:
    with pytest.raises(UnknownName) as error:
        wb.images(pictures(1), answer=["lyon"]).inputs(MODEL)
    assert error.value.near == ["lion"]


def test_a_model_without_a_processor_and_images_of_another_size_are_refused() -> None:
    bare = wb.HookedViT(MODEL.hf)
    with pytest.raises(UsageError, match=r"expected a model with an image processor.*wb.HookedViT\(model, processor\)"):
        wb.images(pictures(1)).inputs(bare)
    large = small_vit()
    large.processor.do_resize = False
    with pytest.raises(BadInput, match=r"^image 0: 24 × 20 pixels after the image processor. pixels="):
        wb.images(pictures(1)).inputs(large)
    with pytest.raises(BadInput, match=r"^image 1: the images of one list have 16 × 16 and 24 × 20 pixels"):
        wb.images([pictures(1, SIDE, SIDE)[0], pictures(1)[0]]).inputs(large)
