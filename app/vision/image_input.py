"""The widgets that select an image: one of a set, one of scikit-learn's photos, or a file of the user's own, which is
stored by its hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

import workbench as wb
from app import upload_store, url_state, url_widgets
from app.messages import Notice, escape_markdown
from app.work.images import PHOTOS, class_of, photos
from workbench.errors import BadInput, WorkbenchError
from workbench.inputs.image_sets import ImageSet
from workbench.inputs.picture import ENDINGS
from workbench.models.patches import pair
from workbench.registry import IMAGE_SETS

OWN = "own"
LABELS = {PHOTOS: "photos", OWN: "a file of my own"}
#: Where the photos come from.
PHOTO_SOURCE = "Photo: scikit-learn, sklearn.datasets.load_sample_images (CC-BY-2.0)"
#: What the parameters of the URL begin with: of the open image, and of the one that it is patched with.
OPEN, OTHER = "image", "other-image"
CLASS_HELP = "Of the image that is shown. Another class opens its first image; the button beside it opens the next."
FROM = "image-from"


def select_image(model: Any, prefix: str = OPEN, first: int = 0, label: str = "Image from") -> dict[str, Any]:
    """The widgets, and the image that they select, as `app.work.images.read_image` takes it.

    Args:
        prefix: of the parameters of the URL.
        first: which image of a set, or which photo, is selected at first.

    Raises:
        Notice: no file was uploaded yet.
        WorkbenchError: the set cannot be fetched, or the file was refused.
    """
    options = _sources(model)
    left, right = st.columns(2)
    with left:
        suitable = _suitable(model, options)
        _leave_out_unusable(prefix, suitable)
        origin = url_widgets.select(label, options, f"{prefix}-from", suitable, format_func=_label)
    with right:
        if origin == PHOTOS:
            return _photo(prefix, first)
        return _own(prefix) if origin == OWN else _of_set(origin, prefix, first, left)


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


def _of_set(name: str, prefix: str, first: int, beside: DeltaGenerator) -> dict[str, Any]:
    images = wb.image_set(name)
    number = url_widgets.number("Held-out image", 0, len(images.test) - 1, f"{prefix}-number", first)
    _of_class(images, number, f"{prefix}-number", beside)
    st.caption(escape_markdown(f"Image {number} ({class_of(images, number)}). {images.source}, {images.licence}."))
    return {"set": name, "number": number}


def _of_class(images: ImageSet, number: int, key: str, beside: DeltaGenerator) -> None:
    """Widgets that select an image by its class; the number, which is in the URL, follows them."""
    labels = images.test.labels
    label_of_image = int(labels[number])

    def select(label: int) -> None:
        numbers = np.flatnonzero(labels == label)
        later = numbers[numbers > number]
        url_widgets.set_value(key, int(later[0] if label == label_of_image and len(later) else numbers[0]))

    def select_class() -> None:
        select(list(images.classes).index(st.session_state[of_class]))

    present = sorted(set(map(int, labels)))
    of_class = f"{key}-class-{images.name}-{number}"  # one for each image: it shows the class of this one
    names = [images.classes[label] for label in present]
    with beside:
        st.selectbox(
            "Class", names, present.index(label_of_image), key=of_class, on_change=select_class, help=CLASS_HELP
        )
    st.button(
        f"Next of class {images.classes[label_of_image]}", key=f"{key}-next", on_click=select, args=(label_of_image,)
    )


def _leave_out_unusable(prefix: str, suitable: str) -> None:
    """Name a file of the URL that cannot be read; held-out images or photos stand in for it."""
    file, origin = f"{prefix}-file", f"{prefix}-from"
    stored = url_widgets.current(file, "")
    if not stored:
        url_state.remove_param(file)
        return
    try:
        upload_store.load_file(stored, "an image")
    except BadInput as error:
        own = url_widgets.current(origin, suitable) == OWN
        url_state.warn(f"{error} {f'Showing {_label(suitable)}.' if own else 'Left out.'}")
        url_widgets.set_for_next_page(file, "")
        url_state.remove_param(file)
        if own:
            url_widgets.set_value(origin, suitable)


def _photo(prefix: str, first: int) -> dict[str, Any]:
    names = list(photos())
    name = url_widgets.segments("Photo", [*names[first:], *names[:first]], f"{prefix}-photo")
    st.caption(PHOTO_SOURCE)
    return {"photo": name}


def _own(prefix: str) -> dict[str, Any]:
    endings = [ending.removeprefix(".") for ending in ENDINGS]
    key, reason, file = f"{prefix}-upload", f"{prefix}-reason", f"{prefix}-file"
    st.file_uploader("Image", endings, key=key, on_change=_upload, args=(key, reason, file))
    if why := st.session_state.get(reason):
        raise BadInput(why)
    stored = url_widgets.current(file, "")
    if not stored:
        url_state.remove_param(file)
        raise Notice("Upload an image: PNG, JPEG, WebP, BMP, GIF or TIFF, of at most 8 MB. It stays on this machine.")
    name, _ = upload_store.load_file(stored, "an image")
    url_widgets.set_for_next_page(file, stored)
    url_state.set_param(file, stored)
    st.caption(escape_markdown(name))
    return {"file": stored}


def _upload(key: str, reason: str, file: str) -> None:
    """Store the file, or keep the reason why it is refused; a callback."""
    upload = st.session_state[key]
    st.session_state.pop(reason, None)
    if upload is None:
        return
    try:
        url_widgets.set_for_next_page(file, store_image(upload))
    except BadInput as error:
        st.session_state[reason] = str(error)


def store_image(upload: Any) -> str:
    """Store an uploaded image; its hash.

    Raises:
        BadInput: it is refused; the line begins with the file's name.
    """
    name, data = upload_store.file_name(upload.name), upload.getvalue()
    try:
        wb.images([{"bytes": data, "path": name}])
        return upload_store.save_file(data, name)
    except WorkbenchError as error:
        raise BadInput(upload_store.reason(error, name)) from None
