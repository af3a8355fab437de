"""Small sets of labelled images, and where their files come from.

A file of ``data/images`` ends in ``images = ImageSet(...)``. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from workbench import arguments
from workbench.errors import BadInput, UnknownName
from workbench.registry import IMAGE_SETS

SPLITS = ("train", "test")


@dataclass(frozen=True)
class LabelledImages:
    """Images with their classes.

    Attributes:
        pixels: brightness from 0 to 255, by row and column; of videos by frame, row and column.
        labels: the class of each image.
        masks: which pixels belong to an object, for generated scenes.

    Examples:
        >>> images = wb.image_set("digits").test
        >>> len(images), images.pixels[0].shape, images.masks is None
        (364, (1, 8, 8), True)
    """

    pixels: UInt8[np.ndarray, "image channel *size"]
    labels: Int64[np.ndarray, "image"]
    masks: Bool[np.ndarray, "image height width"] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageSet:
    """A set of images of one size, in two splits that share no image.

    Attributes:
        name: the name of its file in ``data/images``.
        title: a few words for headings.
        classes: what the labels mean, in order.
        shape: channels, of videos frames, height and width.
        read: ``read(split)`` makes the images of ``"train"`` or ``"test"``.
        licence: of the images.
        source: where they come from.

    Examples:
        >>> digits = wb.image_set("digits")
        >>> digits.test.pixels.shape, digits.classes[int(digits.test.labels[0])]
        ((364, 1, 8, 8), '0')
    """

    name: str
    title: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    read: Callable[[str], LabelledImages]
    licence: str
    source: str

    @cached_property
    def train(self) -> LabelledImages:
        """The images that models are trained on."""
        return self._read("train")

    @cached_property
    def test(self) -> LabelledImages:
        """The held-out images."""
        return self._read("test")

    def _read(self, split: str) -> LabelledImages:
        images = self.read(split)
        expected = (len(images.labels), *self.shape)
        if images.pixels.shape != expected or images.pixels.dtype != np.uint8:
            actual = f"{images.pixels.dtype} {list(images.pixels.shape)}"
            raise BadInput(
                f"{self.name}: expected uint8 images [image, channel, height, width] of {list(expected)}, "
                f"and got {actual}."
            )
        return images


def is_held_out(labels: Int64[np.ndarray, "image"], every: int = 5) -> Bool[np.ndarray, "image"]:
    """A split of a set that has none: of each class the first image in `every`, in their order, is held out."""
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        held_out[np.flatnonzero(labels == label)[::every]] = True
    return held_out


def image_set(name: str) -> ImageSet:
    """One of the workbench's small sets of images.

    Args:
        name: ``digits``, ``mnist``, ``shapes`` or ``moving-digits`` (the files of ``data/images``).

    Raises:
        UnknownName: no such set; the nearest names are suggested.

    Examples:
        >>> wb.image_set("digits").shape
        (1, 8, 8)
    """
    name = arguments.text("name", name, "the name of a set of images")
    if name not in IMAGE_SETS.names():
        raise UnknownName("set of images", name, IMAGE_SETS.names(), argument="name")
    return IMAGE_SETS[name]
