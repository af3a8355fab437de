"""The widgets that select the image: one of a set, one of scikit-learn's photos, or a file of the user's own, which is
stored by its hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import streamlit as st

import workbench as wb
from app import upload_store, url_state, url_widgets
from app.messages import Notice, escape_markdown
from workbench.errors import BadInput, WorkbenchError
from workbench.inputs.picture import ENDINGS
from workbench.models.patches import pair
from workbench.registry import IMAGE_SETS

PHOTOS, OWN = "photos", "own"
FROM, NUMBER, PHOTO, FILE = "image-from", "image-number", "image-photo", "image-file"
LABELS = {PHOTOS: "photos", OWN: "a file of my own"}
#: Where the photos come from.
PHOTO_SOURCE = "Photo: scikit-learn, sklearn.datasets.load_sample_images (CC-BY-2.0)"
_UPLOAD, _REASON = "image-upload", "image-reason"


def select_image(model: Any) -> wb.Images:
    """The widgets, and the image that they select.

    Raises:
        Notice: no file was uploaded yet.
        WorkbenchError: the image cannot be read, or fetched.
    """
    options = _sources(model)
    first, second = st.columns([2, 3])
    with first:
        origin = url_widgets.select("Image from", options, FROM, _suitable(model, options), format_func=_label)
    with second:
        if origin == PHOTOS:
            return _photo()
        return _own() if origin == OWN else _of_set(origin)


def _sources(model: Any) -> list[str]:
    """What has images that the model can take: of as many channels, or grey, and of its own size where its image
    processor does not resize."""
    channels, *size = _shape(model)
    resizes = bool(getattr(model.processor, "do_resize", False))

    def can_take(shape: Sequence[int]) -> bool:
        return len(shape) == 3 and shape[0] in (1, channels) and (resizes or list(shape[1:]) == size)

    sets = [name for name in IMAGE_SETS.names() if can_take(IMAGE_SETS[name].shape)]
    return [*([PHOTOS] if channels == 3 and resizes else []), *sets, OWN]


def _shape(model: Any) -> tuple[int, int, int]:
    """Channels, rows and columns of pixels of the image that the configuration names."""
    return int(model.config.num_channels), *pair(model.config.image_size)


def _suitable(model: Any, options: Sequence[str]) -> str:
    """The set of images that have the model's own size, else the first."""
    sets = (name for name in options if name not in LABELS)
    return next((name for name in sets if IMAGE_SETS[name].shape == _shape(model)), options[0])


def _label(option: str) -> str:
    return LABELS[option] if option in LABELS else IMAGE_SETS[option].title


def _of_set(name: str) -> wb.Images:
    images = wb.image_set(name)
    number = url_widgets.number("Held-out image", 0, len(images.test) - 1, NUMBER, 0)
    label = images.classes[int(images.test.labels[number])]
    pixels = np.moveaxis(images.test.pixels[number], 0, -1)
    st.caption(escape_markdown(f"Class {label}. {images.source}, {images.licence}."))
    return _named(wb.images([pixels], name=name), f"{name} {number}")


def _photo() -> wb.Images:
    from sklearn.datasets import load_sample_images

    photos: Any = load_sample_images()
    pixels = dict(zip((name.rpartition("/")[2] for name in photos.filenames), photos.images, strict=True))
    name = url_widgets.segments("Photo", sorted(pixels), PHOTO)
    st.caption(PHOTO_SOURCE)
    return _named(wb.images([pixels[name]], name=PHOTOS), name)


def _own() -> wb.Images:
    endings = [ending.removeprefix(".") for ending in ENDINGS]
    st.file_uploader("Image", endings, key=_UPLOAD, on_change=_upload)
    if reason := st.session_state.get(_REASON):
        raise BadInput(reason)
    stored = url_widgets.current(FILE, "")
    if not stored:
        url_state.remove_param(FILE)
        raise Notice("Upload an image: PNG, JPEG, WebP, BMP, GIF or TIFF, of at most 8 MB. It stays on this machine.")
    name, data = upload_store.load_file(stored, "an image")
    url_widgets.set_for_next_page(FILE, stored)
    url_state.set_param(FILE, stored)
    st.caption(escape_markdown(name))
    return wb.images([{"bytes": data, "path": name}], name=name)


def _upload() -> None:
    """Store the file, or keep the reason why it is refused; a callback."""
    upload = st.session_state[_UPLOAD]
    st.session_state.pop(_REASON, None)
    if upload is None:
        return
    name, data = upload_store.file_name(upload.name), upload.getvalue()
    try:
        wb.images([{"bytes": data, "path": name}])
        url_widgets.set_for_next_page(FILE, upload_store.save_file(data, name))
    except WorkbenchError as error:
        st.session_state[_REASON] = upload_store.reason(error, name)


def _named(images: wb.Images, name: str) -> wb.Images:
    """One image with a name of its own."""
    return replace(images, pictures=tuple(replace(picture, name=name) for picture in images.pictures))
