"""Images as a page and a job name them, in plain data: one of a set, one of scikit-learn's photos, or an uploaded file
by its hash; and pairs of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

import workbench as wb
from app import upload_store
from workbench.errors import BadInput
from workbench.inputs.image_sets import ImageSet
from workbench.inputs.picture import Picture

#: What results call the photos.
PHOTOS = "photos"


def read_image(source: Mapping[str, Any]) -> wb.Images:
    """The image of ``{"set": name, "number": …}`` (held-out ones), ``{"photo": file name}``, or ``{"file": hash of an
    upload}``; several of ``{"set": name, "numbers": […]}`` or ``{"files": […]}``.

    Raises:
        BadInput, UnknownName: there is none such.
    """
    if "set" in source:
        return _of_set(str(source["set"]), [int(i) for i in source.get("numbers") or [source["number"]]])
    if "photo" in source:
        name = str(source["photo"])
        if name not in photos():
            raise BadInput(f"There is no photo {name!r:.40}, but {', '.join(photos())}.")
        return _named(wb.images([photos()[name]], name=PHOTOS), [name])
    if files := source.get("files") or [source[key] for key in ("file",) if key in source]:
        stored = [upload_store.load_file(str(file), "an image") for file in files]
        name = stored[0][0] if len(stored) == 1 else "uploaded images"
        return wb.images([{"bytes": data, "path": of_file} for of_file, data in stored], name=name)
    raise BadInput(f"image={dict(source)!r:.80}: expected an image of a set, a photo or a file. Select one.")


def _of_set(name: str, numbers: Sequence[int]) -> wb.Images:
    images = wb.image_set(name)
    pixels = images.test.pixels
    for number in numbers:
        if not 0 <= number < len(pixels):
            raise BadInput(f"{name} has the images 0 to {len(pixels) - 1}, not {number}.")
    names = [f"{name} image {number} ({class_of(images, number)})" for number in numbers]
    return _named(wb.images([np.moveaxis(pixels[number], 0, -1) for number in numbers], name=name), names)


def class_of(images: ImageSet, number: int) -> str:
    """The class of a held-out image: ``class 7``."""
    return f"class {images.classes[int(images.test.labels[number])]}"


@cache
def photos() -> dict[str, np.ndarray]:
    """scikit-learn's photos, ``[row, column, channel]``, by file name."""
    from sklearn.datasets import load_sample_images

    every: Any = load_sample_images()
    named = zip((name.rpartition("/")[2] for name in every.filenames), every.images, strict=True)
    return dict(sorted(named))


def read_pair(source: Mapping[str, Any], model: Any) -> wb.ImagePairs | wb.Images:
    """Pairs of images as the model sees them, with its own likeliest classes as answers where it has classes; without
    ``"corrupt"`` the clean images alone.

    Args:
        source: ``{"clean": image, "corrupt": {"other": image}}`` or ``{"clean": image, "corrupt": {"corruption": name,
            "seed": …, "settings": {…}}}``, which may have a ``"region"`` or a ``"size"``, and the image that the
            corruption takes from as ``"other"``; each image as `read_image` takes it. Of several clean images there are
            as many others, or one, which is that of all of them.

    Raises:
        WorkbenchError: there is no such image, or the model cannot take it, or no such pair can be made.
    """
    clean, corrupt = read_image(source["clean"]).as_seen_by(model), source.get("corrupt")
    if corrupt is None:
        return _answered(clean, model)
    other = [read_image(corrupt["other"]).as_seen_by(model)] if "other" in corrupt else []
    if "corruption" not in corrupt:
        others = other[0] if len(other[0]) == len(clean) else other[0].of([0] * len(clean))
        return _answered(clean.paired_with(others), model)
    place = {name: corrupt[name] for name in ("region", "size") if name in corrupt}
    images = replace(clean, pictures=clean.pictures + tuple(picture for x in other for picture in x.pictures))
    pairs = images.corrupted(str(corrupt["corruption"]), seed=int(corrupt["seed"]), **place, **corrupt["settings"])
    return _answered(pairs.of(range(len(clean))), model)


def _answered(images: Any, model: Any) -> Any:
    return images.answered_by(model) if model.outputs_are == "logits" else images


def _named(images: wb.Images, names: Sequence[str]) -> wb.Images:
    """Images with names of their own."""
    both = zip(images.pictures, names, strict=True)
    named: tuple[Picture, ...] = tuple(replace(picture, name=name) for picture, name in both)
    return replace(images, pictures=named)
