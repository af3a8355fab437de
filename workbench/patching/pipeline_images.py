"""The images that a user's pipeline gives, and metrics of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from workbench import arguments
from workbench.errors import UsageError
from workbench.models.precision import at_least_float32
from workbench.patching.metric import Example, Metric

Images = Shaped[Tensor, "image *rest"]


def scores_of(
    metric: Metric | Callable[[Tensor], Any], images: Images, reference: Images
) -> Float[np.ndarray, " image"]:
    """The metric of each image.

    Raises:
        UsageError: images of another shape than the unedited ones, or that the metric cannot read.
    """
    if images.shape != reference.shape:
        shapes = f"{tuple(images.shape)} and {tuple(reference.shape)}"
        raise UsageError(f"run: expected images of one shape, and there are {shapes}.")
    if isinstance(metric, Metric):
        if images.ndim != 4:
            why = f"these images are {arguments.as_typed(images)}"
            do = "Give a function of the images."
            raise arguments.refusal("metric", metric.name, "images [image, channel, ...]", do, because=why)
        rows, of_reference = at_least_float32(images).flatten(1), at_least_float32(reference).flatten(1)
        scores = torch.cat(
            [
                metric(row[None], Example(i, (), (), (), of_reference[i] if metric.reference else None))
                for i, row in enumerate(rows)
            ]
        )
    else:
        scores: Any = metric(images)
        if not isinstance(scores, Tensor) or scores.shape != images.shape[:1]:
            expected = f"one number an image, a tensor of shape ({len(images)},)"
            name = getattr(metric, "__name__", "metric")
            raise UsageError(f"metric={name}: returned {arguments.as_typed(scores)}, expected {expected}.")
    return scores.detach().double().cpu().numpy()


def images_of(result: Any, name: str = "run") -> Images:
    """The images that a function gave; `name` is the argument that it was given for.

    Raises:
        UsageError: it gave none.
    """
    images = getattr(result, "images", result)
    if isinstance(images, tuple) and len(images):
        images = images[0]
    if isinstance(images, list) and images and all(hasattr(image, "getpixel") for image in images):
        images = np.stack([np.asarray(image, dtype=np.float32) / 255 for image in images])
    if isinstance(images, np.ndarray) and images.dtype.kind == "f" and images.ndim in (3, 4):
        tensor = torch.as_tensor(images)
        images = tensor.movedim(3, 1) if tensor.ndim == 4 else tensor[:, None]
    if not isinstance(images, Tensor) or images.ndim < 1 or not len(images):
        raise UsageError(
            f"{name}: returned {arguments.as_typed(result)}, expected images: a tensor [image, ...], an array, PIL "
            "images, or a pipeline's output."
        )
    return images.detach().clone()
