"""An independent judge of samples: scikit-learn's support-vector machine on pixels."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64
from sklearn.svm import SVC

from workbench.inputs.image_sets import ImageSet, LabelledImages
from workbench.registry import IMAGE_SETS

#: Side of the digit in a frame of `moving-digits`.
DIGIT = 8


class Classifier:
    """Tells the classes of digits by their pixels (radial basis functions, C = 10).

    In videos it was trained on still digits and sees, of each frame, the window that holds the most brightness; the
    video's class is the one with the largest sum of scores over frames.
    """

    def __init__(self, images: ImageSet) -> None:
        self.is_video = len(images.shape) > 3
        still = IMAGE_SETS["digits"] if self.is_video else images
        self.machine = SVC(C=10, gamma="scale").fit(_rows(still.train.pixels), still.train.labels)

    def classes(self, images: LabelledImages) -> Int64[np.ndarray, "image"]:
        """The class of each image."""
        if not self.is_video:
            return self.machine.predict(_rows(images.pixels))
        frames = images.pixels[:, 0]
        windows = np.stack([brightest_window(frame) for frame in frames.reshape(-1, *frames.shape[2:])])
        scores = self.machine.decision_function(_rows(windows))
        return scores.reshape(*frames.shape[:2], -1).sum(1).argmax(-1)

    def accuracy(self, images: LabelledImages) -> float:
        """Share of images that are seen as what their labels say."""
        return float((self.classes(images) == images.labels).mean())


def brightest_window(frame: np.ndarray) -> np.ndarray:
    """The square of a digit's size with the largest sum."""
    windows = np.lib.stride_tricks.sliding_window_view(frame, (DIGIT, DIGIT))
    sums = windows.sum((2, 3), dtype=np.int64)
    row, column = np.unravel_index(sums.argmax(), sums.shape)
    return windows[row, column]


def _rows(pixels: np.ndarray) -> Float[np.ndarray, "image pixel"]:
    return pixels.reshape(len(pixels), -1) / 255
