"""Valid calls of what takes a vision model or images, and the odd values that they take."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import workbench as wb
from tests.conformance.arguments.odd_values import MAPPINGS, TEXTS
from tests.small_vit import pictures, small_vit

#: Methods of `ImageAttention`.
AT_A_POSITION = ("index", "patches", "picture", "table", "title", "weights")


@cache
def vision_model() -> Any:
    return small_vit()


@cache
def encoder() -> Any:
    """A vision model without a classifier."""
    return wb.HookedViT(vision_model().hf.vit, vision_model().processor)


@cache
def images() -> wb.Images:
    return wb.images(pictures(1), answer=["zebra"])


#: What a parameter of one call takes besides.
TAKES: dict[str, set[str]] = {
    **{
        f"ImageAttention.{name}.position": {"0"}
        for name in ("index", "patches", "picture", "table", "title", "weights")
    },
    "HookedViT.check": {"True"},
    "HookedViT.processor": {"None"},
    "HookedViT.provenance": {"None", *MAPPINGS},
    "ImagePairs.of.examples": {"0", "[0, 0]"},
    "ImagePairs.show.columns": {"huge"},
    "ImagePairs.show.n": {"huge"},
    "Images.corrupted.region": {"None"},
    "Images.corrupted.size": {"0.5", "None"},
    "Images.of.examples": {"0", "[0, 0]"},
    "Images.show.columns": {"huge"},
    "Images.show.n": {"huge"},
    "distance_to.vector": {"[0, 0]"},
    "images.answer": {"None", "[word]", "[[0]]"},
    "images.name": TEXTS,
    "images.wrong": {"None", "[word]", "[[0]]"},
}

#: An object of each class, whose methods are called.
INSTANCES: dict[str, Callable[[], Any]] = {
    "HookedViT": vision_model,
    "ImageAttention": lambda: wb.attention_on_image(vision_model(), images(), 0, cache=False),
    "ImagePairs": lambda: images().corrupted("blur"),
    "Images": images,
}

#: Call, or call and the parameter that varies → further arguments with which it runs.
VALID_IN: dict[str, Callable[[], dict[str, Any]]] = {
    "image_set": lambda: {"name": "digits"},
    "HookedViT": lambda: {"hf": vision_model().hf},
    "HookedViT.hook_name": lambda: {"site": "z"},
    "HookedViT.forward": lambda: {"input": vision_model().trial()},
    "HookedViT.inputs_to_pixels": lambda: {"inputs": vision_model().trial()},
    "HookedViT.patch_grid": lambda: {"n_positions": 17},
    "HookedViT.pixels_to_inputs": lambda: {"pixels": vision_model().inputs_to_pixels(vision_model().trial())},
    **{f"ImageAttention.{name}": lambda: {"position": "1,2"} for name in AT_A_POSITION},
    "ImagePairs.answered_by": lambda: {"model": vision_model()},
    "ImagePairs.inputs": lambda: {"model": vision_model()},
    "ImagePairs.of": lambda: {"examples": [0]},
    "Images.answered_by": lambda: {"model": vision_model()},
    "Images.as_seen_by": lambda: {"model": vision_model()},
    "Images.corrupted": lambda: {"corruption": "occlude"},
    "Images.inputs": lambda: {"model": vision_model()},
    "Images.of": lambda: {"examples": [0]},
    "Images.paired_with": lambda: {"corrupt": wb.images(pictures(1, seed=1))},
    "images": lambda: {"images": pictures(1)},
    "cosine_to": lambda: {"vector": [1.0, 2.0]},
    "distance_to": lambda: {"vector": [1.0, 2.0]},
    "feature_change": lambda: {
        "model": encoder(),
        "images": wb.images(pictures(1)),
        "edits": [wb.Edit("z", 0, 0, kind="zero")],
    },
    "attention_on_image": lambda: {"model": vision_model(), "image": images()},
}
