"""Videos of 8 frames in which a handwritten digit of 8×8 pixels moves over 12×12 and bounces off the edges."""

from __future__ import annotations

import numpy as np

from workbench.inputs.image_sets import ImageSet, LabelledImages

from .digits import read as read_digits

FRAMES, SIZE, DIGIT, SEED = 8, 12, 8, 0
#: Videos of each digit's image.
EACH = 2


def read(split: str) -> LabelledImages:
    """Two videos of each image of `digits`, in the same split: start and direction are drawn, one pixel a frame."""
    digits = read_digits(split)
    rng = np.random.default_rng([SEED, split == "test"])
    n, room = EACH * len(digits), SIZE - DIGIT
    start = rng.integers(0, 2 * room, (n, 2))  # of a path from 0 to `room` and back
    moves = rng.choice([(0, 1), (1, 0), (1, 1)], n)
    videos = np.zeros((n, FRAMES, SIZE, SIZE), np.uint8)
    for i in range(n):
        for frame in range(FRAMES):
            along = (start[i] + frame * moves[i]) % (2 * room)
            row, column = np.minimum(along, 2 * room - along)
            videos[i, frame, row : row + DIGIT, column : column + DIGIT] = digits.pixels[i // EACH, 0]
    return LabelledImages(videos[:, None], np.repeat(digits.labels, EACH))


images = ImageSet(
    name="moving-digits",
    title="Moving digits, 8 frames of 12×12",
    classes=tuple("0123456789"),
    shape=(1, FRAMES, SIZE, SIZE),
    read=read,
    licence="CC-BY-4.0",
    source="made from the set digits",
)
