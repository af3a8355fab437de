"""Sweeps over several images on the page Vision, against Hugging Face's model with plain hooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import workbench as wb
from app import upload_store
from app.vision import sweep_images
from app.vision.more_files import MORE
from app.work.images import read_pair
from tests.app.pages.driving import NewPage
from tests.app.vision.driving import NUMBER, OTHER, open_pair, pixels, plain, request_of
from tests.app.vision.rendered import components
from workbench.errors import BadInput

SET = "the whole set"


def held_out() -> np.ndarray:
    """The classes of the held-out digits: of each class every fifth image."""
    target = np.array(load_digits(return_X_y=True)[1])
    return target[np.sort(np.concatenate([np.flatnonzero(target == label)[::5] for label in range(10)]))]


def following(number: int, n: int) -> list[int]:
    """The image and the next ones of its class."""
    labels = held_out()
    return [i for i in [*range(number, len(labels)), *range(number)] if labels[i] == labels[number]][:n]


def test_a_sweep_over_a_class_is_plain_hooks_on_each_pair(new_page: NewPage, monkeypatch: pytest.MonkeyPatch) -> None:
    app, job = request_of(monkeypatch, new_page, image_edit="patch, noise", image_n="3")
    clean, corrupt = following(NUMBER, 3), following(OTHER, 3)
    assert job["prompts"]["images"] == {
        "clean": {"set": "digits", "numbers": clean},
        "corrupt": {"other": {"set": "digits", "numbers": corrupt}},
    }
    before, gap, after = [], [], []
    for a, b in zip(clean, corrupt, strict=True):
        (logits, _), (others, z) = plain(pixels(a)), plain(pixels(b))
        answer = int(logits.argmax())
        wrong = next(int(i) for i in others.argsort(descending=True) if i != answer)
        edited, _ = plain(pixels(a), {(1, 2): z[1][:, 2]})
        difference = [float(x[answer] - x[wrong]) for x in (logits, edited, others)]
        before.append(difference[0])
        after.append(difference[1] - difference[0])
        gap.append(difference[2] - difference[0])
    cell = np.array(components(app)["sweep-grid"]["values"]).T[1, 2]
    assert cell == pytest.approx(np.mean(after) / np.mean(gap), abs=2e-5)
    captions = [caption.value.replace("\\", "") for caption in app.caption]
    assert any(f"Clean run: mean logit difference {np.mean(before):.3g}" in x for x in captions)
    assert any("All 3 pairs: clean images above" in str(image.proto) for image in [*app.get("image"), *app.get("imgs")])
    assert any("The answer is each image’s likeliest class" in x for x in captions)
    strongest = next(table.value for table in app.dataframe if "cell" in table.value)
    assert {"95 % low", "95 % high", "p"} <= set(strongest.columns)


def test_a_zero_edit_over_the_whole_set_and_its_code(new_page: NewPage, monkeypatch: pytest.MonkeyPatch) -> None:
    app, job = request_of(monkeypatch, new_page, image_edit="zero", image_n="4", image_n_from=SET)
    numbers = list(range(NUMBER, NUMBER + 4))
    assert job["prompts"]["images"] == {"clean": {"set": "digits", "numbers": numbers}}
    changes = []
    for number in numbers:
        logits, edited = (plain(pixels(number), zeros)[0] for zeros in ({}, {(2, 1): torch.zeros(17, 16)}))
        answer, wrong = logits.topk(2).indices.tolist()
        changes.append(float(edited[answer] - edited[wrong] - logits[answer] + logits[wrong]))
    cell = np.array(components(app)["sweep-grid"]["values"]).T[2, 1]
    assert cell == pytest.approx(np.mean(changes), abs=2e-5)
    names: dict[str, Any] = {}
    exec(compile(app.code[0].value.partition("sweep =")[0], "script", "exec"), names)  # noqa: S102 - the page's own script
    assert [picture.name for picture in names["several"].pictures] == [f"image {i}" for i in range(4)]
    for picture, number in zip(names["several"].pictures, numbers, strict=True):
        np.testing.assert_array_equal(picture.pixels[..., 0], pixels(number))


@pytest.mark.parametrize("corruption", ["occlude", "swap"])
def test_every_image_is_corrupted_as_the_library_does_it(corruption: str, new_page: NewPage) -> None:
    app = open_pair(new_page, corrupt=corruption, corrupt_seed="4", image_n="3")
    names: dict[str, Any] = {}
    exec(compile(app.code[0].value.partition("sweep =")[0], "script", "exec"), names)  # noqa: S102 - the page's own script
    numbers = following(NUMBER, 3) + (following(OTHER, 3) if corruption == "swap" else [])
    images = wb.images([pixels(number) for number in numbers]).as_seen_by(wb.load("digits-vit"))
    expected = images.corrupted(corruption, seed=4, size=0.5).of(range(3))
    for i in range(3):
        np.testing.assert_array_equal(names["several"].corrupt.pictures[i].pixels, expected.corrupt.pictures[i].pixels)


def test_a_class_with_fewer_images_gives_as_many_pairs(new_page: NewPage) -> None:
    app = open_pair(new_page, image_n="64")
    counts = [int((held_out() == held_out()[number]).sum()) for number in (NUMBER, OTHER)]
    assert min(counts) < 64 and any(f"the set has {min(counts)} such" in x.value for x in app.caption)


def test_files_of_ones_own_are_swept_together(
    new_page: NewPage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    new_page(model="digits-vit")  # sets where uploads are stored
    stored = []
    for number in (NUMBER, 8, 9):
        Image.fromarray(pixels(number)).save(tmp_path / f"{number}.png")
        stored.append(upload_store.save_file((tmp_path / f"{number}.png").read_bytes(), f"{number}.png"))
    query = {"image_from": "own", "image_file": stored[0], "image_more": ",".join(stored[1:])}
    app, job = request_of(monkeypatch, new_page, image_edit="patch, denoise", **query)
    images = job["prompts"]["images"]
    assert images["clean"] == {"files": stored} and images["corrupt"]["other"] == {"set": "digits", "number": OTHER}
    pairs = read_pair(images, wb.load("digits-vit"))
    assert isinstance(pairs, wb.ImagePairs)
    for (clean, corrupt), number in zip(pairs.images(), (NUMBER, 8, 9), strict=True):
        np.testing.assert_array_equal(np.asarray(clean), pixels(number))
        np.testing.assert_array_equal(np.asarray(corrupt), pixels(OTHER))
    assert any("Beside the open image: 8.png, 9.png." in x.value.replace("\\", "") for x in app.caption)
    assert "wb.images(['7.png', '8.png', '9.png'])" in app.code[0].value
    again = new_page(model="digits-vit", **{**query, "image_more": "zzzz"})
    (warning,) = again.warning
    assert "'zzzz', which is not a SHA-256 hash" in warning.value.replace("\\", "") and MORE not in again.query_params


def test_without_several_images_nothing_of_them_is_asked(new_page: NewPage) -> None:
    app = open_pair(new_page, image_n="1", image_n_from=SET)
    assert app.number_input(key=sweep_images.N).value == 1
    assert not any(group.key == sweep_images.FROM for group in app.get("button_group"))


def test_numbers_that_are_not_there_are_refused() -> None:
    with pytest.raises(BadInput, match="digits has the images 0 to"):
        read_pair({"clean": {"set": "digits", "numbers": [3, 10_000]}}, wb.load("digits-vit"))
