"""The image is replaced by another of the list with another answer, which is then the wrong answer."""

import numpy as np
from jaxtyping import UInt8

from workbench.inputs.corruption import Corruption, Pixels, Scene


def change(pixels: Pixels, scene: Scene) -> UInt8[np.ndarray, "other_row other_column other_channel"]:
    assert scene.other is not None
    return scene.other.copy()


corruption = Corruption("relabel", change, partner="label", has_region=False)
