"""Images as inputs of a vision model: from files, Pillow, arrays or a `datasets` column, with their classes.

What comes in is read and checked at once (`workbench.inputs.picture`). Nothing here imports torch: that happens in
`Images.inputs`, which needs a model anyway.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import arguments
from workbench.errors import BadInput
from workbench.inputs.contact_sheet import COLUMNS, contact_sheet, first_of, in_lines, png
from workbench.inputs.picture import ENDINGS, Picture, read_picture

if TYPE_CHECKING:
    from PIL.Image import Image

    from workbench.inputs.image_pairs import ImagePairs
    from workbench.inputs.paired import PairedInputs

#: A class of the model, by its name or its index.
Class = str | int


@dataclass(frozen=True, eq=False)
class Images:
    """Images, with their classes where these are known; made by `images`.

    Attributes:
        pictures: the images, as pixels with a name and a hash each.
        answer, wrong: the right and the wrong classes of each, by name or index; empty where there are none.
        name: what results call them.
        seen_by: of `as_seen_by`: what resized and cropped them; empty for images as they came.
        patch: the height and width of a patch in pixels then, else 0.

    Examples:
        >>> import numpy as np
        >>> images = wb.images([np.zeros((28, 28), dtype=np.uint8), np.ones((28, 28), dtype=np.uint8)], answer=[0, 1])
        >>> len(images), images.images()[0].size
        (2, (28, 28))
    """

    pictures: tuple[Picture, ...]
    answer: tuple[tuple[Class, ...], ...] = ()
    wrong: tuple[tuple[Class, ...], ...] = ()
    name: str = "images"
    seen_by: str = ""
    patch: int = 0

    modality = "vision"

    def __post_init__(self) -> None:
        pictures = arguments.sequence("pictures", self.pictures, "pictures")
        if not pictures or not all(isinstance(picture, Picture) for picture in pictures):
            do = "Use wb.images([...])."
            raise arguments.refusal("pictures", self.pictures, "a list of pictures, at least one", do)
        object.__setattr__(self, "pictures", pictures)
        for name in ("answer", "wrong"):
            object.__setattr__(self, name, _classes(name, getattr(self, name), len(pictures)))
        for answer, wrong, picture in zip(self.answer, self.wrong, self.pictures, strict=False):
            if both := [entry for entry in answer if entry in wrong]:
                raise BadInput(f"{picture.name}: {both[0]!r} is both the answer and wrong. They must differ.")
        arguments.text("name", self.name)
        arguments.text("seen_by", self.seen_by, empty=True)
        arguments.whole_number("patch", self.patch, at_least=0, at_most=2**31)

    def __len__(self) -> int:
        return len(self.pictures)

    def of(self, examples: Sequence[int]) -> Images:
        """Some of the images, in that order."""
        examples = arguments.indices("examples", examples, len(self), "image", repeated=True)
        rows = {
            name: tuple(getattr(self, name)[i] for i in examples) for name in ("answer", "wrong") if getattr(self, name)
        }
        return replace(self, pictures=tuple(self.pictures[i] for i in examples), **rows)

    def images(self) -> list[Image]:
        """The images, as Pillow's."""
        return [picture.image() for picture in self.pictures]

    def show(self, n: int = COLUMNS, columns: int = COLUMNS) -> Image:
        """The first n images, so many side by side, as one Pillow image, which a notebook draws; below it says of how
        many."""
        n, columns = (arguments.whole_number(*x, at_least=1) for x in (("n", n), ("columns", columns)))
        first = [picture.image() for picture in self.pictures[:n]]
        return contact_sheet(in_lines([first], columns), first_of(n, len(self), "images"))

    def as_seen_by(self, model: Any) -> Images:
        """The images resized and cropped as the model's image processor does: regions of corruptions then are pixels
        that the model sees, or patches by their label (``region="2,3"``). Later they are only rescaled and normalised,
        to the same numbers, bit for bit.

        Raises:
            UsageError: `model` is no vision model, or another one made them its size before.
            BadInput: an image that its processor cannot process.
        """
        from workbench.inputs.pixels import as_seen, check_seen_by, check_vision, processor_hash

        check_vision(model)
        check_seen_by(model, self.seen_by)
        if self.seen_by:
            return self
        pictures = tuple(as_seen(model, picture) for picture in self.pictures)
        return replace(self, pictures=pictures, seen_by=processor_hash(model), patch=patch_size(model))

    def corrupted(
        self,
        corruption: Any,
        *,
        seed: int = 0,
        region: Any = None,
        size: float | None = None,
        **settings: Any,
    ) -> ImagePairs:
        """Pairs of each image and a corrupt one, made by a corruption of ``workbench/inputs/corruptions``.

        Args:
            corruption: ``"occlude"``, ``"swap"``, ``"blur"``, ``"move"`` or ``"relabel"``, or a function
                ``f(pixels [row, column, channel], rng) -> pixels`` of your own.
            seed: with the corruption's name and an image's place in the list it decides whatever is drawn at random.
            region: where, for those that change a region: ``(top, left, bottom, right)`` in pixels of the image, or
                the label of a patch, ``"2,3"``, after `as_seen_by`. Left out, blur and move take the whole image, and
                the others a region drawn at random.
            size: the share of the height and of the width that such a region has; 0.5 by default.
            settings: the corruption's own, such as ``fill="black"``.

        Raises:
            UnknownName: no such corruption or setting; the nearest are suggested.
            UsageError: a value that is not possible, a region outside an image, or no image that could be the partner.
            BadInput: a corrupt image that is the same as its clean one.

        Examples:
            >>> import numpy as np
            >>> images = wb.images([np.arange(64, dtype=np.uint8).reshape(8, 8)], answer=[3])
            >>> pairs = images.corrupted("occlude", region=(0, 0, 4, 4), fill="white")
            >>> np.asarray(pairs.images()[0][1])[0].tolist()
            [255, 255, 255, 255, 4, 5, 6, 7]
        """
        from workbench.inputs.image_pairs import corrupted

        return corrupted(self, corruption, seed, region, size, settings)

    def paired_with(self, corrupt: Images) -> ImagePairs:
        """Pairs of these images and corrupt ones of your own, one each. The answers are those of these images; where
        there are no wrong answers, the answers of the corrupt ones.

        Raises:
            UsageError: another number of images.
        """
        from workbench.inputs.image_pairs import paired

        return paired(self, corrupt)

    def answered_by(self, model: Any) -> Images:
        """The images with the model's own likeliest class as the answer, and its second as the wrong one.

        Raises:
            UsageError: `model` is no vision model with classes.
        """
        from workbench.inputs.image_inputs import likeliest_classes

        best = likeliest_classes(model, self)
        return replace(self, answer=tuple((row[0],) for row in best), wrong=tuple((row[1],) for row in best))

    def inputs(self, model: Any) -> PairedInputs:
        """What the engine runs: both runs of each image are the same. `wb.record`, `wb.run`, `wb.scores` and edits
        other than patch take images as they are; patch edits need pairs, see `corrupted`.

        Raises:
            UsageError: `model` is no vision model.
            UnknownName: a class that it does not have; the nearest are suggested.
            BadInput: an image that its processor cannot process, or whose channels or size are not the model's.
        """
        from workbench.inputs.image_inputs import inputs_of

        return inputs_of(model, self, self, {})

    def _repr_png_(self) -> bytes:
        return png(self.show())


def images(
    images: Any,
    answer: Sequence[Class | Sequence[Class]] | np.ndarray | None = None,
    wrong: Sequence[Class | Sequence[Class]] | np.ndarray | None = None,
    *,
    name: str = "images",
) -> Images:
    """Images as inputs of a vision model, which its own image processor prepares.

    Grey images are given to models of colour with the channel repeated; palettes and CMYK become RGB, and photos are
    turned as their EXIF data say. Arrays of numbers from 0 to 1 are rounded to 8 bits. Transparent and animated images,
    and those of more than 8 bits, are refused.

    Args:
        images: a list of paths, Pillow images, arrays (``[row, column]`` or ``[row, column, channel]``, uint8 from 0 to
            255 or floating-point from 0 to 1) or tensors (``[channel, row, column]``), or a column of a `datasets`
            dataset; a path alone is one image, or all images of a folder in the order of their names.
        answer, wrong: the right and the wrong class of each image, by its name or its index, or several.
        name: what results and charts call them.

    Raises:
        UsageError: an empty list, an array of another shape, type or range, or as many classes as there are no images.
        BadInput: a file that is missing, damaged, animated or no image, or that has too many pixels.

    Examples:
        >>> import numpy as np
        >>> from PIL import Image
        >>> Image.fromarray(np.full((28, 28), 200, dtype=np.uint8)).save("grey.png")
        >>> [picture.name for picture in wb.images(["grey.png"]).pictures]
        ['grey.png']
    """
    arguments.text("name", name)
    values = _listed(images)
    pictures = tuple(read_picture(value, f"images[{i}]", f"image {i}") for i, value in enumerate(values))
    for label, classes in (("answer", answer), ("wrong", wrong)):
        if classes is not None and not arguments.sequence(label, classes, "a class for each image"):
            raise arguments.refusal(label, classes, "a class for each image, or None")
    right: Any = () if answer is None else answer  # checked there
    other: Any = () if wrong is None else wrong
    return Images(pictures, right, other, name)


def _listed(images: Any) -> list[Any]:
    """The entries of whatever a user may give."""
    expected = "paths, PIL images or arrays, one or a list of them"
    if isinstance(images, str | os.PathLike):
        path = arguments.file_path("images", images, expected)
        if not path.is_dir():
            return [path]
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS)
        if not files:
            raise BadInput(f"{path}: no images in this folder. Give one with files that end in {', '.join(ENDINGS)}.")
        return list(files)
    if hasattr(images, "convert") and hasattr(images, "mode"):
        return [images]
    shape = getattr(images, "shape", None)
    if isinstance(shape, tuple):
        if len(shape) == 4 and shape[0]:
            return list(images)
        raise arguments.refusal(
            "images", images, "a list of arrays, one for each image", "Write [array] or list(arrays)."
        )
    entries = list(arguments.sequence("images", images, expected))
    if not entries:
        raise arguments.refusal("images", images, f"{expected}, at least one")
    return entries


def _classes(name: str, value: Any, n: int) -> tuple[tuple[Class, ...], ...]:
    """The classes of each image."""
    entries = arguments.sequence(name, value, "a class for each image")
    if not entries:
        return ()
    if len(entries) != n:
        why = f"there are {n} images" if n > 1 else "there is one image"
        raise arguments.refusal(name, value, "a class for each image", because=why)
    rows: list[Any] = [entry if isinstance(entry, list | tuple) else (entry,) for entry in entries]
    checked: list[tuple[Class, ...]] = []
    for row in rows:
        if not row or not all(map(_is_class, row)):
            raise arguments.refusal(name, value, "classes by name or index, one or several for each image")
        checked.append(tuple(entry if isinstance(entry, str) else int(entry) for entry in row))
    return tuple(checked)


def _is_class(entry: Any) -> bool:
    if isinstance(entry, str):
        return bool(entry)
    return isinstance(entry, int | np.integer) and not isinstance(entry, bool) and int(entry) >= 0


def patch_size(model: Any) -> int:
    """The height and width of a model's patches in pixels; 0 where they are not squares."""
    size = getattr(model.config, "patch_size", 0)
    sizes = set(size) if isinstance(size, list | tuple) else {size}
    return int(sizes.pop()) if len(sizes) == 1 else 0
