"""Images on the command line: options that several verbs share, and what is made of them before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.errors import UsageError
from workbench.registry import CORRUPTIONS

ImagePaths = Annotated[
    list[Path] | None,
    typer.Option(
        "--images",
        metavar="PATH",
        help="Images of a vision model: files, a folder of them, or one of such folders.",
    ),
]
MorePaths = Annotated[list[Path] | None, typer.Argument(metavar="[IMAGE]...", help="More images, after --images PATH.")]
Answers = Annotated[
    list[str] | None,
    typer.Option(
        "--answer",
        metavar="CLASS",
        help="With --images: the class by name or index, of all images or repeated for each; by-folder for the name of "
        "each image's folder (default: the likeliest).",
    ),
]
Wrongs = Annotated[
    list[str] | None, typer.Option("--wrong", metavar="CLASS", help="With --answer: the wrong class, in the same way.")
]
Corrupt = Annotated[
    str | None,
    typer.Option(
        "--corrupt",
        metavar="CORRUPTION",
        help=f"With --images: how corrupt images are made: {', '.join(CORRUPTIONS.names())}; with settings such as "
        "'occlude(size=0.3, fill=black)'.",
    ),
]
OtherImages = Annotated[
    list[Path] | None,
    typer.Option(
        "--other-images",
        metavar="PATH",
        help="With --images: corrupt images of your own, one for each, in the same order: a file (may be repeated), or "
        "a folder.",
    ),
]
#: As the only --answer: each image's class is the name of its folder.
BY_FOLDER = "by-folder"
#: Settings that every corruption of a region has.
PLACE = ("region", "size")


@dataclass(frozen=True)
class ImageRequest:
    """Images of a command, read and corrupted as far as that goes without the model.

    Attributes:
        images: `wb.Images`.
        others: `wb.Images`, the corrupt ones of each; None where there are none, or a corruption makes them.
        corruption, settings, seed: how corrupt ones are made; no corruption for images as they are.
    """

    images: Any
    corruption: str = ""
    settings: dict[str, Any] | None = None
    seed: int = 0
    others: Any = None

    @property
    def needs_patches(self) -> bool:
        """Whether the region is a patch, which only the model can tell."""
        return isinstance((self.settings or {}).get("region"), str)

    def made(self, images: Any) -> Any:
        """Pairs, or the images where there is no corruption."""
        if self.others is not None:
            return images.paired_with(self.others)
        if not self.corruption:
            return images
        return images.corrupted(self.corruption, seed=self.seed, **(self.settings or {}))

    def for_model(self, model: Any, answers: bool) -> Any:
        """What a sweep takes; with the model's own classes as answers where some are needed and none were given.

        Raises:
            UsageError: a number that is the index of one class and the name of another.
        """
        names = tuple(getattr(model, "output_names", ()))
        for option, rows in (("--answer", self.images.answer), ("--wrong", self.images.wrong)):
            for value in (value for row in rows for value in row if isinstance(value, int)):
                if str(value) in names and value < len(names) and names[value] != str(value):
                    named = names.index(str(value))
                    why = f"class {named} has this name, and it stands for class {value} by index too"
                    raise UsageError(f"{option} {value}: {why}. Use Python.")
        made = self.made(self.images.as_seen_by(model) if self.needs_patches else self.images)
        return made.answered_by(model) if answers and not self.images.answer else made

    def written(self) -> list[Any]:
        """Everything that the inputs depend on besides the model (JSON-able)."""
        every = [self.images.pictures, self.others.pictures if self.others is not None else ()]
        pictures = [[[picture.name, picture.sha256] for picture in some] for some in every]
        rows = [list(map(list, rows)) for rows in (self.images.answer, self.images.wrong)]
        return ["images", self.images.name, *pictures, *rows, self.corruption, self.settings, self.seed]


def image_request(
    paths: Sequence[Path],
    more: Sequence[Path] | None,
    answers: Sequence[str] | None = None,
    wrongs: Sequence[str] | None = None,
    corrupt: str | None = None,
    seed: int = 0,
    others: Sequence[Path] | None = None,
) -> ImageRequest:
    """The images of a command's options.

    Raises:
        UsageError, BadInput: whatever can be told without the model.
    """
    from workbench.attention.settings import parse

    if others and corrupt is not None:
        raise UsageError("--corrupt and --other-images: both give the corrupt images. Leave one of them out.")
    if others and more:
        do = "Repeat --images and --other-images before each file, or give folders."
        raise UsageError(f"{more[0]}: with --other-images it is not clear whose image this is. {do}")
    images, folders = _read((*paths, *(more or ())))
    other, other_folders = _read(others) if others else (None, [])
    if wrongs and not answers:
        raise UsageError("--wrong is only for --answer. Give --answer CLASS, too.")
    by_folder = list(answers or ()) == [BY_FOLDER]
    if by_folder:
        answers = folders
    if by_folder and not wrongs and len(other_folders) == len(folders):
        wrongs = other_folders
    images = replace(
        images,
        answer=_classes("--answer", answers, len(images)),
        wrong=_classes("--wrong", wrongs, len(images)),
    )
    if other is not None:
        if len(other) != len(images):
            n = f"{len(other)} image{'s' * (len(other) != 1)}"
            raise UsageError(f"--other-images: expected one for each of --images, {len(images)}. These are {n}.")
        request = ImageRequest(images, others=other)
        request.made(images)  # the same image twice is reported before the model is loaded
        return request
    if corrupt is None:
        return ImageRequest(images)
    corruption, settings = parse(corrupt, "--corrupt", "occlude(size=0.3)")
    request = ImageRequest(images, corruption, settings, seed)
    if unknown := {"seed", "corruption"} & set(settings):
        raise UsageError(f"--corrupt {corrupt}: {min(unknown)} is no setting here. Give --seed S.")
    if corruption in CORRUPTIONS.names() and CORRUPTIONS[corruption].partner == "label" and not answers:
        do = "Give --answer CLASS for each, which workbench patch takes."
        raise UsageError(f"--corrupt {corruption}: it needs the class of each image. {do}")
    if not request.needs_patches:
        request.made(images)  # a wrong name or setting is reported before the model is loaded
    return request


def check_image_options(images: Any, **options: Any) -> None:
    """Refuse options that belong to images where there are none.

    Raises:
        UsageError: the first of them.
    """
    if images:
        return
    more = options.pop("more", None)
    if more:
        raise UsageError(f"{more[0]}: images follow --images. Write --images {more[0]}.")
    for name, value in options.items():
        if value:
            raise UsageError(f"--{name.replace('_', '-')} is only for --images. Give --images PATH, or leave it out.")


def no_prompts(task: str | None, pairs: Path | None, n: int | None, skip: bool, what: str = "images") -> None:
    """Refuse options that belong to prompts, beside images or samples.

    Raises:
        UsageError: the first of them.
    """
    for option, value in (("--task", task), ("--pairs", pairs), ("--n", n), ("--skip", skip)):
        if value:
            raise UsageError(f"{option} is for prompts, and these are {what}. Leave it out.")


def _read(paths: Sequence[Path]) -> tuple[Any, list[str]]:
    """The images of some files and folders, in order, and the name of each one's folder."""
    import workbench as wb

    pictures, folders = [], []
    for leaf in (leaf for path in paths for leaf in _leaves(path)):
        read = wb.images(leaf).pictures
        folder = leaf if leaf.is_dir() else leaf.parent
        pictures += read
        folders += [folder.resolve().name] * len(read)
    return wb.Images(tuple(pictures), name=pictures[0].name if len(pictures) == 1 else "images"), folders


def _leaves(path: Path) -> list[Path]:
    """The folders in a folder that has no images of its own, in the order of their names; else the path."""
    from workbench.inputs.picture import ENDINGS

    inside = sorted(path.iterdir()) if path.is_dir() else []
    if any(entry.suffix.lower() in ENDINGS and entry.is_file() for entry in inside):
        return [path]
    return [entry for entry in inside if entry.is_dir() and not entry.name.startswith(".")] or [path]


def _classes(option: str, values: Sequence[str] | None, n: int) -> tuple[tuple[str | int, ...], ...]:
    if not values:
        return ()
    if len(values) not in (1, n):
        raise UsageError(f"{option}: {len(values)} classes for {n} images. Give one for all, or one for each.")
    rows = [(int(value) if value.isdecimal() else value,) for value in values]
    return tuple(rows * n if len(rows) == 1 else rows)
