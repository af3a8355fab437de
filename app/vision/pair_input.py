"""The widgets that select the corrupt image: another one, or the open image after a named corruption, with its settings
and its seed. Both are shown side by side before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import url_widgets
from app.messages import escape_markdown
from app.vision.image_input import OTHER, select_image
from app.vision.view import View
from workbench.inputs.corruption import SIZE, Corruption
from workbench.inputs.corruptions.occlude import FILLS
from workbench.registry import CORRUPTIONS

#: Value of the URL's ``corrupt`` for another image; the others are names of corruptions.
OTHER_IMAGE = "other"
CORRUPT, SEED, WHERE, SIZE_KEY = "corrupt", "corrupt-seed", "corrupt-where", "corrupt-size"
WHOLE, RANDOM, PATCH = "the whole image", "a region drawn at random", "the selected patch"
#: Settings that are one of a few texts.
CHOICES = {"fill": FILLS}
#: Ends of settings that are numbers.
RANGES = {"radius": (0.1, 100.0), "down": (-512, 512), "right": (-512, 512)}
#: Where a corruption needs another value than its own default to change anything.
FIRST = {"right": 2}
MAX_SEED = 10_000


def corrupt_widgets(view: View, position: str) -> dict[str, Any]:
    """The widgets, and the corrupt image as `app.work.images.read_pair` takes it.

    Args:
        position: the selected one.

    Raises:
        Notice: no file was uploaded yet.
        WorkbenchError: another image that cannot be had.
    """
    # `relabel` is another image by its class: here every image can be selected.
    names = [name for name in CORRUPTIONS.names() if CORRUPTIONS[name].partner != "label"]
    name = url_widgets.select("Corrupt image", [OTHER_IMAGE, *names], CORRUPT, format_func=_label, help=HELP)
    if name == OTHER_IMAGE:
        return {"other": _other_image(view)}
    corruption = CORRUPTIONS[name]
    st.caption(escape_markdown(CORRUPTIONS.summary(name)))
    corrupt: dict[str, Any] = {"corruption": name, "settings": _settings(corruption), **_place(corruption, position)}
    if corruption.partner:
        corrupt["other"] = _other_image(view)
    return {**corrupt, "seed": url_widgets.number("Seed", 0, MAX_SEED, SEED, 0)}


def description(corrupt: Mapping[str, Any]) -> str:
    """How the corrupt image is made, in a few words: ``occlude, fill=black, patch 2,3, seed 0``."""
    if "corruption" not in corrupt:
        return "another image"
    settings = [f"{name}={value}" for name, value in corrupt["settings"].items()]
    where = f"patch {corrupt['region']}" if "region" in corrupt else ""
    size = f"a region of size {corrupt['size']:g}" if "size" in corrupt else ""
    return ", ".join(filter(None, [corrupt["corruption"], *settings, where, size, f"seed {corrupt['seed']}"]))


def _other_image(view: View) -> dict[str, Any]:
    return select_image(view.model, OTHER, first=1, label="Other image from")


def _label(name: str) -> str:
    return "another image" if name == OTHER_IMAGE else name


def _settings(corruption: Corruption) -> dict[str, Any]:
    """The corruption's own settings, a widget each."""
    values: dict[str, Any] = {}
    for name, default in corruption.settings().items():
        label, key = name.capitalize(), f"corrupt-{name}"
        if name in CHOICES:
            values[name] = url_widgets.select(label, CHOICES[name], key)
        elif isinstance(default, float):
            low, high = RANGES.get(name, (None, None))
            values[name] = url_widgets.decimal(f"{label} (pixels)", low, high, key, default)
        elif isinstance(default, int):
            low, high = RANGES.get(name, (-512, 512))
            values[name] = url_widgets.number(f"{label} (pixels)", int(low), int(high), key, FIRST.get(name, default))
        else:
            values[name] = url_widgets.line(label, key, str(default))
    return values


def _place(corruption: Corruption, position: str) -> dict[str, Any]:
    """Where the image is changed."""
    if not corruption.has_region:
        return {}
    options = [*([WHOLE] if corruption.whole else []), RANDOM, *([PATCH] if "," in position else [])]
    where = url_widgets.segments("Where", options, WHERE)
    if where == RANDOM:
        percent = url_widgets.slider("Size, % of height and width", 5, 100, SIZE_KEY, round(100 * SIZE))
        return {"size": percent / 100}
    return {"region": position} if where == PATCH else {}


HELP = (
    "Patching moves activations between the open image (clean) and this one. A corruption is made in the image as the "
    "model sees it, resized and cropped, so its pixels are the model’s. The seed decides what is drawn at random."
)
