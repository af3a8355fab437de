"""Prompts as a page and a job name them, in plain data: a task's, or pairs of the user's own by their hash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import workbench as wb
from app.work.stored_pairs import load_stored
from workbench.errors import BadInput


def load_prompts(source: Mapping[str, Any]) -> Any:
    """The prompts of ``{"task": name, "n": …, "seed": …}``, or of ``{"pairs": hash of stored pairs}``.

    Raises:
        BadInput, UnknownName: there are none such.
    """
    if "task" in source:
        return wb.task(str(source["task"]), n=int(source["n"]), seed=int(source["seed"]))
    if "pairs" in source:
        return load_stored(str(source["pairs"])).pairs()
    if "latents" in source:  # of a diffusion model: the arguments of wb.latents
        return wb.latents(**source["latents"])
    raise BadInput(f"prompts={dict(source)!r}: expected a task or pairs. Select one.")
