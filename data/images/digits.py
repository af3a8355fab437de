"""Handwritten digits of 8×8 pixels: scikit-learn's copy of the optical digits of the UCI repository (test part)."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from workbench.inputs.image_sets import ImageSet, LabelledImages, is_held_out


def read(split: str) -> LabelledImages:
    """1,433 images to train on and 364 held out; 17 levels of grey, spread over 0 to 255."""
    source: Any = load_digits()
    pixels, labels = source.data, source.target.astype(np.int64)
    chosen = is_held_out(labels) == (split == "test")
    grey = np.rint(pixels[chosen] * (255 / 16)).astype(np.uint8)
    return LabelledImages(grey.reshape(-1, 1, 8, 8), labels[chosen])


images = ImageSet(
    name="digits",
    title="Handwritten digits, 8×8",
    classes=tuple("0123456789"),
    shape=(1, 8, 8),
    read=read,
    licence="CC-BY-4.0",
    source="scikit-learn, sklearn.datasets.load_digits (UCI, Optical Recognition of Handwritten Digits)",
)
