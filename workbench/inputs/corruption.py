"""What a corruption of images is: a named, seeded change of one picture.

Each file of `workbench.inputs.corruptions` is a corruption; a function ``f(pixels, rng) -> pixels`` of your own is one,
too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from workbench import arguments
from workbench.errors import UnknownName, UsageError
from workbench.registry import CORRUPTIONS

Pixels = UInt8[np.ndarray, "row column channel"]
OtherPixels = UInt8[np.ndarray, "other_row other_column other_channel"]
#: Top, left, bottom and right, in pixels: rows ``top`` to ``bottom − 1``.
Region = tuple[int, int, int, int]
#: The share of an image's height and width that a region has which is drawn at random.
SIZE = 0.5


@dataclass(frozen=True)
class Scene:
    """What a corruption may use besides the picture itself.

    Attributes:
        rng: seeded by the corruption, the seed and the picture's place in the list.
        region: where the picture is changed.
        other: another picture of the list, for those that need one.
        name: what messages call the picture.
    """

    rng: np.random.Generator
    region: Region
    other: OtherPixels | None = None
    name: str = "image"

    @property
    def window(self) -> tuple[slice, slice]:
        """The region's rows and columns."""
        top, left, bottom, right = self.region
        return slice(top, bottom), slice(left, right)


@dataclass(frozen=True)
class Corruption:
    """A named change of one picture.

    Attributes:
        name: that of its file.
        change: ``f(pixels [row, column, channel], scene, **settings) -> pixels``; its keyword arguments with defaults
            are the corruption's settings. It returns another array.
        partner: whether it needs another picture of the list: ``"any"``, or ``"label"`` for one with another answer,
            which is then the wrong answer.
        has_region: whether it changes a region; others change the whole picture.
        whole: whether the region is the whole picture where none is given, instead of one drawn at random.
    """

    name: str
    change: Callable[..., Pixels]
    partner: str = ""
    has_region: bool = True
    whole: bool = False

    def settings(self) -> dict[str, Any]:
        """Its settings with their defaults."""
        parameters = list(inspect.signature(self.change).parameters.values())[2:]
        return {parameter.name: parameter.default for parameter in parameters}

    def check(self, values: Mapping[str, Any]) -> None:
        """Refuse settings that it does not have.

        Raises:
            UnknownName: the nearest are suggested.
        """
        for name in values:
            if name not in self.settings():
                hint = "" if self.settings() else f"{self.name} has no settings besides seed and region."
                raise UnknownName(f"setting of {self.name}", name, self.settings(), hint)

    def __call__(self, pixels: Pixels, scene: Scene, settings: Mapping[str, Any]) -> OtherPixels:
        """The corrupt picture.

        Raises:
            UsageError: a setting that is not possible, or a change that returns no picture.
        """
        corrupt = self.change(pixels, scene, **settings)
        if not isinstance(corrupt, np.ndarray) or corrupt.dtype != np.uint8 or corrupt.ndim != 3:
            expected = "an array [row, column, channel] of uint8"
            raise UsageError(f"corruption={self.name}: returned {arguments.as_typed(corrupt)}, expected {expected}.")
        return corrupt


def resolve_corruption(corruption: Any) -> Corruption:
    """The corruption of that name, or a function ``f(pixels, rng) -> pixels`` as one.

    Raises:
        UnknownName: no corruption of that name; the nearest are suggested.
    """
    if isinstance(corruption, Corruption):
        return corruption
    do = "A function f(pixels, rng) of your own is a corruption too."
    if not callable(corruption):
        return CORRUPTIONS[arguments.one_of("corruption", corruption, CORRUPTIONS.names(), do=do)]
    arguments.function_of(
        "corruption", corruption, 2, "a function of the pixels and a generator", do="Write f(pixels, rng)."
    )
    name = getattr(corruption, "__name__", "corruption")
    change: Callable[..., Any] = corruption
    return Corruption(name, lambda pixels, scene: change(pixels.copy(), scene.rng), has_region=False)


def random_region(rows: int, columns: int, rng: np.random.Generator, size: float = SIZE) -> Region:
    """A region of that share of the height and of the width, at a random place."""
    height, width = max(1, round(rows * size)), max(1, round(columns * size))
    top, left = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
    return top, left, top + height, left + width


def check_region(region: Any, rows: int, columns: int, name: str = "region") -> Region:
    """Top, left, bottom and right in pixels of a picture.

    Raises:
        UsageError: something else, or a region that is empty or leaves the picture.
    """
    expected = f"(top, left, bottom, right) in pixels, within {rows} × {columns}"
    match region:
        case (top, left, bottom, right):
            ends = [top, left, bottom, right]
            if all(isinstance(x, int | np.integer) and not isinstance(x, bool) for x in ends):
                top, left, bottom, right = map(int, ends)
                if 0 <= top < bottom <= rows and 0 <= left < right <= columns:
                    return top, left, bottom, right
    raise arguments.refusal(name, region, expected)
