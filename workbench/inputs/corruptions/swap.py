"""A region is replaced by the same region of another image of the list."""

from workbench import arguments
from workbench.inputs.corruption import Corruption, Pixels, Scene


def change(pixels: Pixels, scene: Scene) -> Pixels:
    other = scene.other
    if other is None or other.shape != pixels.shape:
        do = "Use images.as_seen_by(model), which makes them one size."
        raise arguments.refusal(
            scene.name, pixels, "images of one shape", do, because="a region is replaced by another image's"
        )
    corrupt = pixels.copy()
    corrupt[scene.window] = other[scene.window]
    return corrupt


corruption = Corruption("swap", change, partner="any")
