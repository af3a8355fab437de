"""An independent judge of samples: scikit-learn's support-vector machine on pixels."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64
from sklearn.svm import SVC

from workbench.inputs.image_sets import ImageSet, LabelledImages

#: Side of the digit in a frame of `moving-digits`.
DIGIT = 8


class Classifier:
    """Tells the classes of digits by their pixels (radial basis functions, C = 10).

    Of a video it sees, in each frame, the window of a digit's size that holds the most brightness (`brightest_window`;
    it learns from every fourth frame), and takes the class with the largest sum of scores over frames.
    """

    def __init__(self, images: ImageSet) -> None:
        self.is_video = len(images.shape) > 3
        train = images.train
        pixels = _windows(train.pixels[:, 0, ::4]) if self.is_video else train.pixels
        labels = np.repeat(train.labels, len(pixels) // len(train))
        self.machine = SVC(C=10, gamma="scale").fit(_rows(pixels), labels)

    def classes(self, images: LabelledImages) -> Int64[np.ndarray, "image"]:
        """The class of each image."""
        if not self.is_video:
            return self.machine.predict(_rows(images.pixels))
        scores = self.machine.decision_function(_rows(_windows(images.pixels[:, 0])))
        return scores.reshape(len(images), -1, scores.shape[-1]).sum(1).argmax(-1)

    def accuracy(self, images: LabelledImages) -> float:
        """Share of images that are seen as what their labels say."""
        return float((self.classes(images) == images.labels).mean())


def brightest_window(frame: np.ndarray) -> np.ndarray:
    """The square of a digit's size with the largest sum."""
    windows = np.lib.stride_tricks.sliding_window_view(frame, (DIGIT, DIGIT))
    sums = windows.sum((2, 3), dtype=np.int64)
    row, column = np.unravel_index(sums.argmax(), sums.shape)
    return windows[row, column]


def _windows(frames: np.ndarray) -> np.ndarray:
    """The brightest window of each frame, the frames of a video one after the other."""
    return np.stack([brightest_window(frame) for frame in frames.reshape(-1, *frames.shape[2:])])


def _rows(pixels: np.ndarray) -> Float[np.ndarray, "image pixel"]:
    return pixels.reshape(len(pixels), -1) / 255
