"""Pairs of images: each with a corrupt one, made by a named corruption or the user's own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import arguments
from workbench.errors import BadInput, UsageError
from workbench.inputs.contact_sheet import COLUMNS, contact_sheet, first_of, in_lines, png
from workbench.inputs.corruption import Corruption, Region, Scene, check_region, random_region, resolve_corruption
from workbench.inputs.picture import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

    from workbench.inputs.images import Images
    from workbench.inputs.paired import PairedInputs


@dataclass(frozen=True, eq=False)
class ImagePairs:
    """Clean images, each with a corrupt one; made by `Images.corrupted` and `Images.paired_with`.

    Attributes:
        clean: the clean images, with the answers.
        corrupt: the corrupt ones, in the same order.
        made_by: what made them, for results (JSON-able): the corruption with its seed and settings.

    Examples:
        >>> import numpy as np
        >>> clean = wb.images([np.arange(64, dtype=np.uint8).reshape(8, 8)])
        >>> pairs = clean.corrupted("move", down=2)
        >>> pairs.made_by
        {'corruption': 'move', 'seed': 0, 'down': 2, 'right': 0}
    """

    clean: Images
    corrupt: Images
    made_by: Mapping[str, Any] = field(default_factory=dict)

    modality = "vision"

    def __post_init__(self) -> None:
        for name in ("clean", "corrupt"):
            value = getattr(self, name)
            if isinstance(value, type) or not hasattr(value, "pictures"):
                raise arguments.refusal(name, value, "images", "Use wb.images([...]).")
        if len(self.clean) != len(self.corrupt):
            expected, why = "one corrupt image for each clean one", f"there are {len(self.clean)} clean ones"
            raise arguments.refusal(
                "corrupt", self.corrupt, expected, because=f"these are {len(self.corrupt)}, and {why}"
            )
        if self.clean.seen_by != self.corrupt.seen_by:
            do = "Use as_seen_by on both, or on neither."
            raise arguments.refusal("corrupt", self.corrupt, "images made the same size by the same processor", do)
        arguments.mapping("made_by", self.made_by, "a mapping that says what made them")

    def __len__(self) -> int:
        return len(self.clean)

    def of(self, examples: Sequence[int]) -> ImagePairs:
        """Some of the pairs, in that order."""
        return replace(self, clean=self.clean.of(examples), corrupt=self.corrupt.of(examples))

    def images(self) -> list[tuple[Image, Image]]:
        """The clean and the corrupt image of each pair, as Pillow's."""
        return list(zip(self.clean.images(), self.corrupt.images(), strict=True))

    def show(self, n: int = COLUMNS, columns: int = COLUMNS) -> Image:
        """The first n pairs, so many side by side, as one Pillow image, which a notebook draws: clean above, corrupt
        below. At the foot it says of how many."""
        n, columns = (arguments.whole_number(*x, at_least=1) for x in (("n", n), ("columns", columns)))
        rows = [images.images()[:n] for images in (self.clean, self.corrupt)]
        return contact_sheet(in_lines(rows, columns), first_of(n, len(self), "pairs"))

    def answered_by(self, model: Any) -> ImagePairs:
        """The pairs with the model's own classes as answers: the likeliest of each clean image, and, as the wrong one,
        the likeliest of the corrupt image that is not the answer.

        Raises:
            UsageError: `model` is no vision model with classes.
        """
        from workbench.inputs.image_inputs import likeliest_classes

        answers = [row[0] for row in likeliest_classes(model, self.clean)]
        rows = zip(answers, likeliest_classes(model, self.corrupt), strict=True)
        wrong = tuple((next(i for i in row if i != answer),) for answer, row in rows)
        clean = replace(self.clean, answer=tuple((answer,) for answer in answers), wrong=wrong)
        return replace(self, clean=clean, made_by={**self.made_by, "answers": "the model's likeliest classes"})

    def inputs(self, model: Any) -> PairedInputs:
        """What the engine runs.

        Raises:
            UsageError: `model` is no vision model.
            UnknownName: a class that it does not have; the nearest are suggested.
            BadInput: an image that its processor cannot process, whose channels or size are not the model's, or that
                is the same for the model as its clean one.
        """
        from workbench.inputs.image_inputs import inputs_of

        inputs = inputs_of(model, self.clean, self.corrupt, self.made_by)
        for i, (clean, corrupt) in enumerate(zip(inputs.clean, inputs.corrupt, strict=True)):
            if bool((clean == corrupt).all()):
                do = "Corrupt more of it: patching moves the difference."
                raise BadInput(f"{inputs.where[i]}: clean and corrupt are the same for this model. {do}")
        return inputs

    def _repr_png_(self) -> bytes:
        return png(self.show())


def paired(clean: Images, corrupt: Any) -> ImagePairs:
    """Pairs of the user's own images; wrong answers that are not given are the corrupt images' answers."""
    pairs = ImagePairs(clean, corrupt)
    for a, b in zip(clean.pictures, corrupt.pictures, strict=True):
        if np.array_equal(a.pixels, b.pixels):
            do = "Give a corrupt image that differs: patching moves the difference."
            raise BadInput(f"{a.name}: clean and corrupt are the same image. {do}")
    if clean.answer and corrupt.answer and not clean.wrong:
        return replace(pairs, clean=replace(clean, wrong=corrupt.answer))
    return pairs


def corrupted(
    images: Images, corruption: Any, seed: Any, region: Any, size: Any, settings: Mapping[str, Any]
) -> ImagePairs:
    """`Images.corrupted`."""
    kind = resolve_corruption(corruption)
    kind.check(settings)
    seed = arguments.whole_number("seed", seed, at_least=0)
    size = arguments.number("size", size, above=0, at_most=1, optional=True)
    if not kind.has_region and (region is not None or size is not None):
        name, value = ("size", size) if region is None else ("region", region)
        raise arguments.refusal(name, value, "None", because=f"{kind.name} changes the whole image")
    if region is not None and size is not None:
        raise arguments.refusal("size", size, "None", because="region says where")
    pictures, partners = [], []
    for i, picture in enumerate(images.pictures):
        rng = _generator(kind.name, seed, i)
        partner = _partner(kind, images, i, rng)
        other = None if partner is None else images.pictures[partner].pixels
        scene = Scene(rng, _region(kind, images, picture, region, size, rng), other, picture.name)
        corrupt = Picture.of(kind(picture.pixels, scene, settings), f"{picture.name}, {kind.name}")
        if np.array_equal(corrupt.pixels, picture.pixels):
            do = "Choose another region, seed or setting."
            raise BadInput(f"{picture.name}: {kind.name} changes no pixel of it. {do}")
        pictures.append(corrupt)
        partners.append(partner)
    where: dict[str, Any] = {"region": region} if region is not None else {"size": size} if size is not None else {}
    made_by = {"corruption": kind.name, "seed": seed, **where, **kind.settings(), **settings}
    clean, answer = images, ()
    if kind.partner == "label":
        answer = tuple(images.answer[partner] for partner in partners)
        clean = images if images.wrong else replace(images, wrong=answer)
    return ImagePairs(clean, replace(images, pictures=tuple(pictures), answer=answer, wrong=()), made_by)


def _generator(name: str, seed: int, place: int) -> np.random.Generator:
    """The same on every machine, and for the first images of a longer list."""
    digest = hashlib.sha256(f"{name}/{seed}/{place}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def _region(
    kind: Corruption, images: Images, picture: Picture, region: Any, size: float | None, rng: np.random.Generator
) -> Region:
    rows, columns = picture.pixels.shape[:2]
    if isinstance(region, str):
        region = _patch(region, images.patch, rows, columns)
    if region is not None:
        return check_region(region, rows, columns)
    if size is None and (kind.whole or not kind.has_region):
        return 0, 0, rows, columns
    return random_region(rows, columns, rng, **({} if size is None else {"size": size}))


def _patch(label: str, patch: int, rows: int, columns: int) -> Region:
    """The region of a patch by its label, ``"2,3"``."""
    if not patch:
        do = "Use images.as_seen_by(model) first."
        raise arguments.refusal(
            "region", label, "(top, left, bottom, right) in pixels", do, because="patches are a model's"
        )
    row, comma, column = label.partition(",")
    if comma and row.isdecimal() and column.isdecimal() and len(label) < 12:
        top, left = int(row) * patch, int(column) * patch
        if top + patch <= rows and left + patch <= columns:
            return top, left, top + patch, left + patch
    last = f"{rows // patch - 1},{columns // patch - 1}"
    raise arguments.refusal("region", label, f"a patch from '0,0' to '{last}'")


def _partner(kind: Corruption, images: Images, i: int, rng: np.random.Generator) -> int | None:
    """The place of another image of the list, for a corruption that needs one."""
    if not kind.partner:
        return None
    if kind.partner == "label" and not images.answer:
        do = "Give answer=[...] to wb.images."
        raise UsageError(f"corruption={kind.name!r}: it needs images with answers. {do}")
    among = [
        j
        for j, other in enumerate(images.pictures)
        if not np.array_equal(other.pixels, images.pictures[i].pixels)
        and not (kind.partner == "label" and set(images.answer[j]) & set(images.answer[i]))
    ]
    if not among:
        what = "another answer" if kind.partner == "label" else "other pixels"
        name = images.pictures[i].name
        raise UsageError(f"corruption={kind.name!r}: {name} needs another image of the list with {what}. Give one.")
    return int(among[int(rng.integers(len(among)))])
