"""Whether a generative model copies its training images: how near samples are to them, beside images never seen."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from sklearn.neighbors import NearestNeighbors

from workbench.inputs.image_sets import ImageSet, LabelledImages


def nearest_training_image(samples: LabelledImages, images: ImageSet) -> tuple[float, float]:
    """Euclidean distances of pixels to the nearest training image.

    Returns:
        The median over samples divided by the median over held-out images: about 1 for new images, 0 for copies. And
        the share of samples that are nearer than 99 % of the held-out images are: about 0.01 for new images.
    """
    index = NearestNeighbors(n_neighbors=1).fit(_rows(images.train))
    of_samples = index.kneighbors(_rows(samples))[0][:, 0]
    of_held_out = index.kneighbors(_rows(images.test))[0][:, 0]
    ratio = float(np.median(of_samples) / np.median(of_held_out))
    return ratio, float((of_samples < np.quantile(of_held_out, 0.01)).mean())


def _rows(images: LabelledImages) -> Float[np.ndarray, "image pixel"]:
    return images.pixels.reshape(len(images), -1) / 255
