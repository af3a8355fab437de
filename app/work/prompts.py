"""What a page and a job ask about, in plain data: a task's prompts, pairs of the user's own by their hash, images, or
samples of a diffusion model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import workbench as wb
from app.work.images import read_pair
from app.work.stored_pairs import load_stored
from workbench.errors import BadInput


def load_prompts(source: Mapping[str, Any], model: Any = None) -> Any:
    """The prompts of ``{"task": name, "n": …, "seed": …}``, or of ``{"pairs": hash of stored pairs}``; the images of
    ``{"images": …}`` (`app.work.images.read_pair`); the samples of ``{"latents": arguments of `workbench.latents`}``.

    Args:
        model: that sees the images.

    Raises:
        WorkbenchError: there are none such, or the model cannot take them.
    """
    if "images" in source:
        return read_pair(source["images"], model)
    if "task" in source:
        return wb.task(str(source["task"]), n=int(source["n"]), seed=int(source["seed"]))
    if "pairs" in source:
        return load_stored(str(source["pairs"])).pairs()
    if "latents" in source:
        return wb.latents(**source["latents"])
    raise BadInput(f"prompts={dict(source)!r}: expected a task, pairs, images or latents. Select one.")
