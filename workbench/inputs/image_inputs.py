"""From images and pairs of them to what the engine runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import BadInput, WorkbenchError
from workbench.inputs.classes import class_ids, likeliest
from workbench.inputs.paired import PairedInputs
from workbench.inputs.pixels import check_seen_by, check_vision, pixel_values, processor_settings

if TYPE_CHECKING:
    from workbench.inputs.images import Images

#: Images of a forward that looks for likeliest classes.
BATCH = 8


def inputs_of(model: Any, clean: Images, corrupt: Images, info: Mapping[str, Any]) -> PairedInputs:
    """Inputs of pairs, or of images whose two runs are the same; answers are those of `clean`.

    Args:
        info: what a result says of the inputs besides their names and hashes and the processor's settings.

    Raises:
        UsageError, UnknownName, BadInput: as `Images.inputs`.
    """
    check_vision(model)
    answer, wrong = (class_ids(model, name, getattr(clean, name)) for name in ("answer", "wrong"))
    rows = model_inputs(model, clean)
    others = rows if corrupt is clean else model_inputs(model, corrupt)
    if others.shape != rows.shape:
        raise BadInput(
            f"{corrupt.pictures[0].name}: clean images have {rows.shape[1]} positions here and corrupt ones "
            f"{others.shape[1]}. Give images of one size."
        )
    runs = tuple(rows)
    positions = {label: i for i, label in enumerate(model.labels(rows[0]))}
    return PairedInputs(
        name=clean.name,
        clean=runs,
        corrupt=runs if others is rows else tuple(others),  # the same object where there is no pair
        answer=answer,
        wrong=wrong,
        positions=(positions,) * len(rows),
        where=tuple(picture.name for picture in clean.pictures),
        sources=tuple(_sources(model, clean, corrupt, answer, wrong)),
        info={**info, "processor": processor_settings(model)},
    )


def _sources(
    model: Any, clean: Images, corrupt: Images, answer: Sequence[tuple[int, ...]], wrong: Sequence[tuple[int, ...]]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What each run is of, for results: names, hashes, and the classes that metrics compare, where there are some."""
    names, none = model.output_names, [()] * len(clean)
    for a, b, right, other in zip(clean.pictures, corrupt.pictures, answer or none, wrong or none, strict=True):
        classes = {"answer": [names[i] for i in right], "wrong": [names[i] for i in other]}
        of_clean = {"name": a.name, "sha256": a.sha256, **{name: some for name, some in classes.items() if some}}
        yield of_clean, {"name": b.name, "sha256": b.sha256}


def model_inputs(model: Any, images: Images) -> Float[Tensor, "image pos n"]:
    """The images as the model's inputs.

    Raises:
        UsageError: another model's image processor made them its size.
        BadInput: an image that the processor, or the model, cannot take.
    """
    check_seen_by(model, images.seen_by)
    pixels = pixel_values(model, images.pictures, seen=bool(images.seen_by))
    rows, columns = pixels.shape[-2:]
    try:
        return model.pixels_to_inputs(pixels)
    except WorkbenchError as error:
        size = f"{rows} × {columns} pixels after the image processor"
        raise BadInput(f"{images.pictures[0].name}: {size}. {error}") from None


@torch.no_grad()
def likeliest_classes(model: Any, images: Images) -> list[list[int]]:
    """The model's classes of each image, the likeliest first.

    Raises:
        UsageError: the model is no vision model with classes.
    """
    check_vision(model)
    inputs = model_inputs(model, images)
    return likeliest(model, torch.cat([model.outputs(part.to(model.device)) for part in inputs.split(BATCH)]))
