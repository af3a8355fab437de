"""Scenes of two or three textured shapes of one kind on a textured ground, 32×32, with masks of the shapes.

Shapes and ground have the same texture, a grating, in perpendicular directions and at random phases: brightness and
contrast are distributed alike inside and outside, so that foreground can only be told by direction. A scene's class is
the kind of its shapes.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from workbench.inputs.image_sets import ImageSet, LabelledImages

SIZE, SEED = 32, 0
CLASSES = ("disc", "bar", "pillar", "cross")
NUMBERS = {"train": 12_000, "test": 1_000}
#: Pixels from a crest of the grating to the next.
PERIOD = 4.0
#: Directions of gratings; shapes and ground of a scene are perpendicular.
DIRECTIONS = 4
NOISE = 0.1
#: How large shapes are, from their centre, in scenes of two or three of them.
RADII = {2: (7.0, 8.0), 3: (5.5, 6.5)}

Mask = Bool[np.ndarray, "height width"]


def read(split: str) -> LabelledImages:
    """The scenes of a split, whose seed is its own."""
    return scenes(NUMBERS[split], (SEED, list(NUMBERS).index(split)))


def scenes(n: int, seed: int | tuple[int, ...]) -> LabelledImages:
    """Scenes with their masks; the first ones of a larger number are those of a smaller one."""
    rng = np.random.default_rng(seed)
    made = [_scene(rng) for _ in range(n)]
    pixels, labels, masks = (np.stack(part) for part in zip(*made, strict=True))
    return LabelledImages(pixels[:, None], labels, masks)


def _scene(rng: np.random.Generator) -> tuple[np.ndarray, np.int64, Mask]:
    label, number = rng.integers(len(CLASSES)), int(rng.choice(list(RADII)))
    mask = np.zeros((SIZE, SIZE), bool)
    for y, x, radius in _places(number, rng):
        mask |= _shape(CLASSES[label], y, x, radius)
    outside = int(rng.integers(DIRECTIONS))
    inside = (outside + DIRECTIONS // 2) % DIRECTIONS
    wave = np.where(mask, _grating(inside, rng), _grating(outside, rng)) + NOISE * rng.standard_normal(mask.shape)
    return np.rint(127.5 + 100 * wave.clip(-1.2, 1.2)).astype(np.uint8), label, mask


def _places(number: int, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Centres and radii of shapes that lie within the scene and do not touch."""
    while True:
        radii = rng.uniform(*RADII[number], number)
        centres = np.stack([rng.uniform(r - 0.5, SIZE - 0.5 - r, 2) for r in radii])
        gaps = [np.abs(centres[i] - centres[j]).max() - radii[i] - radii[j] for i in range(number) for j in range(i)]
        if min(gaps, default=1.0) >= 1:
            return [(y, x, r) for (y, x), r in zip(centres, radii, strict=True)]


def _shape(kind: str, y: float, x: float, radius: float) -> Mask:
    """The pixels of a shape in a square of side ``2 · radius``."""
    down, right = (axis / radius for axis in (np.arange(SIZE)[:, None] - y, np.arange(SIZE)[None] - x))
    if kind == "disc":
        return down**2 + right**2 <= 1
    bar = (np.abs(down) <= 0.4) & (np.abs(right) <= 1)
    pillar = (np.abs(right) <= 0.4) & (np.abs(down) <= 1)
    return {"bar": bar, "pillar": pillar, "cross": bar | pillar}[kind]


def _grating(direction: int, rng: np.random.Generator) -> Float[np.ndarray, "height width"]:
    """A wave from −1 to 1 along one of the directions, at a phase that is drawn."""
    angle = np.pi * direction / DIRECTIONS
    along = np.arange(SIZE)[:, None] * np.sin(angle) + np.arange(SIZE)[None] * np.cos(angle)
    return np.sin(2 * np.pi * (along / PERIOD + rng.random()))


images = ImageSet(
    name="shapes",
    title="Textured shapes on textured grounds, 32×32",
    classes=CLASSES,
    shape=(1, SIZE, SIZE),
    read=read,
    licence="MIT",
    source="generated (data/images/shapes.py); with fewer kinds and plainer textures than at first, which a model of "
    "this size learned to 0.84",
)
