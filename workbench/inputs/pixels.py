"""From pictures to a vision model's inputs, through its own image processor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench import arguments
from workbench.errors import BadInput
from workbench.inputs.picture import Picture

#: Settings of a processor that say where it was loaded from, and change no number.
_ELSEWHERE = ("_name_or_path", "processor_class", "image_processor_type", "_processor_class")


def check_vision(model: Any, argument: str = "model") -> Any:
    """A vision model with an image processor.

    Raises:
        UsageError: something else.
    """
    if getattr(model, "modality", "") != "vision" or isinstance(model, type):
        raise arguments.refusal(argument, model, "a vision model", "Use wb.load(name).")
    if getattr(model, "processor", None) is None:
        do = "Give it one: wb.HookedViT(model, processor)."
        raise arguments.refusal(argument, model, "a model with an image processor", do)
    if not hasattr(model, "pixels_to_inputs"):
        why = f"{type(model).__name__} has no pixels_to_inputs, which makes inputs of pixels"
        raise arguments.refusal(argument, model, "a vision model such as wb.HookedViT", because=why)
    return model


def processor_settings(model: Any) -> dict[str, Any]:
    """The settings of a model's image processor, and its class (JSON-able)."""
    settings = json.loads(model.processor.to_json_string())
    numeric = {name: value for name, value in settings.items() if name not in _ELSEWHERE}
    return {"class": type(model.processor).__name__, **numeric}


def processor_hash(model: Any) -> str:
    """A hash of `processor_settings`."""
    return hashlib.sha256(json.dumps(processor_settings(model), sort_keys=True).encode()).hexdigest()


def check_seen_by(model: Any, seen_by: str) -> None:
    """Refuse images that another image processor resized and cropped; `seen_by` is its `processor_hash`, or empty.

    Raises:
        UsageError: it is another one.
    """
    if seen_by and seen_by != processor_hash(model):
        why = "another image processor made the images its size"
        raise arguments.refusal("model", model, "the model of as_seen_by", because=why)


def pixel_values(model: Any, pictures: Sequence[Picture], *, seen: bool) -> Float[Tensor, "image channel row column"]:
    """The pictures as the model's processor makes them.

    Args:
        seen: whether they are resized and cropped already (`as_seen`): then they are only rescaled and normalised.

    Raises:
        BadInput: a picture with other channels than the model takes, or one that the processor cannot process.
    """
    rest = {"do_resize": False, "do_center_crop": False, "do_pad": False} if seen else {}
    rows = [torch.as_tensor(_processed(model, picture, rest), dtype=torch.float32) for picture in pictures]
    for picture, row in zip(pictures, rows, strict=True):
        if row.shape != rows[0].shape:
            sizes = " and ".join(f"{x.shape[1]} × {x.shape[2]}" for x in (rows[0], row))
            raise BadInput(f"{picture.name}: the images of one list have {sizes} pixels. Give images of one size.")
        if not bool(torch.isfinite(row).all()):
            raise BadInput(f"{picture.name}: the image processor gives values that are not finite. Check its settings.")
    return torch.stack(rows)


def as_seen(model: Any, picture: Picture) -> Picture:
    """The picture resized and cropped as the model's processor does, neither rescaled nor normalised.

    Raises:
        BadInput: as `pixel_values`.
    """
    pixels = np.moveaxis(np.asarray(_processed(model, picture, {"do_rescale": False, "do_normalize": False})), 0, -1)
    rounded = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    if not np.array_equal(rounded, pixels):
        why = "it changes colours while it resizes"
        raise BadInput(
            f"{picture.name}: the processor's resized image is not of 8 bits, because {why}. "
            "Give an image of the model's own size."
        )
    return Picture(Picture.of(rounded, picture.name).pixels, picture.name, picture.sha256)


def _processed(model: Any, picture: Picture, settings: Mapping[str, Any]) -> Any:
    """``[channel, row, column]`` of one picture."""
    pixels, name = picture.pixels, picture.name
    channels = int(getattr(model.config, "num_channels", 3))
    if pixels.shape[-1] == 1 and channels == 3:
        pixels = np.repeat(pixels, 3, -1)
    if pixels.shape[-1] != channels:
        do = "Give it in grey." if channels == 1 else "Give an image with as many."
        channel_counts = f"{pixels.shape[-1]} channels, and the model takes {channels}"
        raise BadInput(f"{name}: an image of {channel_counts}. {do}")
    try:
        made = model.processor(
            images=[np.ascontiguousarray(pixels)], input_data_format="channels_last", return_tensors="np", **settings
        )
        values = made["pixel_values"][0]
    except (ValueError, TypeError, KeyError, IndexError, ZeroDivisionError, MemoryError) as error:
        size = f"{pixels.shape[0]} × {pixels.shape[1]}"
        reason = " ".join(str(error).split())
        raise BadInput(
            f"{name}: the image processor refuses {size} pixels ({reason:.120}). Give another size."
        ) from None
    if values.ndim != 3 or values.shape[0] != channels:
        raise BadInput(f"{name}: the image processor gives {list(values.shape)}, not [{channels}, row, column].")
    return values
