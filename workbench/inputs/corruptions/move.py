"""What is in a region, by default the whole image, is moved by some pixels; where it was is the image's mean colour."""

import numpy as np

from workbench import arguments
from workbench.inputs.corruption import Corruption, Pixels, Scene


def change(pixels: Pixels, scene: Scene, down: int = 0, right: int = 0) -> Pixels:
    rows, columns = pixels.shape[:2]
    down = arguments.whole_number("down", down, at_least=-rows, at_most=rows)
    right = arguments.whole_number("right", right, at_least=-columns, at_most=columns)
    if not (down or right):
        raise arguments.refusal("down", down, "pixels to move by, in down or in right or in both")
    top, left, bottom, end = scene.region
    corrupt = pixels.copy()
    corrupt[scene.window] = np.rint(pixels.mean((0, 1)))
    # What would lie outside the image is lost.
    first_row, last_row = max(0, top + down), min(rows, bottom + down)
    first_column, last_column = max(0, left + right), min(columns, end + right)
    if first_row < last_row and first_column < last_column:
        corrupt[first_row:last_row, first_column:last_column] = pixels[
            first_row - down : last_row - down, first_column - right : last_column - right
        ]
    return corrupt


corruption = Corruption("move", change, whole=True)
