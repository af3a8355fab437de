"""The images of a sweep: the open one, or it and more of its set, or of the user's own files; each with a corrupt one
where the edit patches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st

import workbench as wb
from app import models, url_widgets
from app.messages import escape_markdown
from app.vision.more_files import more_files
from app.vision.view import View
from app.work.images import read_pair

#: Parameters of the URL.
N, FROM = "image-n", "image-n-from"
#: Images of a sweep at most, those that are shown before it runs, and how many stand side by side.
MOST, PREVIEW, COLUMNS = 64, 16, 4
CLASS, SET = "its class", "the whole set"
N_HELP = (
    "Images of the sweep: the open one, and those that follow it among the held-out images. The corrupt images are the "
    "ones that follow the other image, or are made in the same way. Intervals and p-values are over the images."
)


def select(images: Mapping[str, Any]) -> dict[str, Any]:
    """The widgets, and the images that they select.

    Args:
        images: the open pair, or the open image alone, as `app.work.images.read_pair` takes them.
    """
    clean = images["clean"]
    if "file" in clean:
        files = list(dict.fromkeys([clean["file"], *more_files()]))
        return dict(images) if len(files) == 1 else {**images, "clean": {"files": files}}
    if "set" not in clean:
        return dict(images)
    number_column, from_column = st.columns([1, 2], vertical_alignment="bottom")
    with number_column:
        n = url_widgets.number("Images", 1, MOST, N, 1, help=N_HELP)
    if n == 1:
        url_widgets.hidden_select([CLASS, SET], FROM)
        return dict(images)
    with from_column:
        of_class = url_widgets.segments("Taken from", [CLASS, SET], FROM) == CLASS
    several = {**images, "clean": _following(clean, n, of_class)}
    corrupt = images.get("corrupt", {})
    if "set" in corrupt.get("other", {}):
        several["corrupt"] = {**corrupt, "other": _following(corrupt["other"], n, of_class)}
    several = _equally_many(several)
    if (count := len(several["clean"]["numbers"])) < n:
        st.caption(f"n = {count}: the set has {count} such images.")
    return several


def show(view: View, several: Mapping[str, Any]) -> int:
    """The first images and the classes that metrics compare, before anything runs; how many images there are."""
    pairs = _read(view.model_name, json.dumps(several, sort_keys=True))
    n = len(pairs)
    first = pairs.of(range(min(n, PREVIEW)))
    which = f"The first {len(first)} of {n}" if len(first) < n else f"All {n}"
    what = " pairs: clean images above, corrupt ones below" if "corrupt" in several else " images"
    st.image(first.show(PREVIEW, COLUMNS), caption=which + what, width="content")
    if view.model.outputs_are == "logits":
        clean = pairs.clean if isinstance(pairs, wb.ImagePairs) else pairs
        answer, wrong = (_listed(view.model, rows) for rows in (clean.answer, clean.wrong))
        of_wrong = "the corrupt image’s likeliest other one" if "corrupt" in several else "the second likeliest"
        line = f"The answer is each image’s likeliest class ({answer}); the wrong answer is {of_wrong} ({wrong})."
        st.caption(escape_markdown(line))
    return n


def _following(image: Mapping[str, Any], n: int, of_class: bool) -> dict[str, Any]:
    """The image of a set and those that follow it, of its class or of all; after the last comes the first. Fewer than
    `n` where there are no more."""
    labels, number = wb.image_set(image["set"]).test.labels, int(image["number"])
    among = np.flatnonzero(labels == labels[number]) if of_class else np.arange(len(labels))
    numbers = np.roll(among, -int(np.searchsorted(among, number)))[:n]
    return {"set": image["set"], "numbers": numbers.tolist()}


def _equally_many(images: dict[str, Any]) -> dict[str, Any]:
    """As many clean as corrupt images, where one class has fewer."""
    corrupt = images.get("corrupt", {})
    sides = [images["clean"], *([corrupt["other"]] if "numbers" in corrupt.get("other", {}) else [])]
    n = min(len(side["numbers"]) for side in sides)
    clean, *other = ({**side, "numbers": side["numbers"][:n]} for side in sides)
    return {**images, "clean": clean, **({"corrupt": {**corrupt, "other": other[0]}} if other else {})}


def _listed(model: Any, rows: tuple[tuple[Any, ...], ...]) -> str:
    """The classes of the images, each once."""
    return ", ".join(dict.fromkeys(model.output_names[i] for row in rows for i in row))


@st.cache_resource(max_entries=8, show_spinner="Running the images …")
def _read(model_name: str, images: str) -> wb.ImagePairs | wb.Images:
    return read_pair(json.loads(images), models.load(model_name))
