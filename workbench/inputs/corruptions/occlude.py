"""A region is covered: with the image's mean colour, with black, with white, or with noise."""

import numpy as np

from workbench import arguments
from workbench.inputs.corruption import Corruption, Pixels, Scene

FILLS = ("mean", "black", "white", "noise")


def change(pixels: Pixels, scene: Scene, fill: str = "mean") -> Pixels:
    arguments.one_of("fill", fill, FILLS)
    corrupt = pixels.copy()
    part = corrupt[scene.window]
    if fill == "noise":
        part[:] = scene.rng.integers(0, 256, part.shape, dtype=np.uint8)
    else:
        part[:] = {"black": 0, "white": 255, "mean": np.rint(pixels.mean((0, 1)))}[fill]
    return corrupt


corruption = Corruption("occlude", change)
