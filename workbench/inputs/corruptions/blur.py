"""A region, by default the whole image, is blurred by a Gaussian of a standard deviation in pixels."""

import numpy as np
from PIL import Image, ImageFilter

from workbench import arguments
from workbench.inputs.corruption import Corruption, Pixels, Scene


def change(pixels: Pixels, scene: Scene, radius: float = 4.0) -> Pixels:
    radius = arguments.number("radius", radius, above=0, at_most=1000)
    grey = pixels.shape[-1] == 1
    image = Image.fromarray(pixels[..., 0] if grey else pixels).filter(ImageFilter.GaussianBlur(radius))
    blurred = np.asarray(image).reshape(pixels.shape)
    corrupt = pixels.copy()
    corrupt[scene.window] = blurred[scene.window]
    return corrupt


corruption = Corruption("blur", change, whole=True)
