"""A sweep on disk: ``values``, ``base`` and ``source``, with axes, labels and info as JSON metadata."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import BadInput
from workbench.io.array_file import ArrayFile, is_texts

if TYPE_CHECKING:
    from workbench.results.sweep import Sweep

ARRAYS = ("values", "base", "source")
FILE = ArrayFile(
    "workbench.sweep/1", "sweep", "Sweep.save", "values, base and optionally source", is_array=ARRAYS.__contains__
)


def save(sweep: Sweep, path: str | PathLike[str]) -> None:
    """Write `sweep` whole or not at all."""
    arrays = {name: array for name in ARRAYS if (array := getattr(sweep, name)) is not None}
    FILE.save(path, arrays, {"axes": sweep.axes, "labels": sweep.labels, "info": sweep.info})


def load(path: str | PathLike[str], sweep_class: type[Sweep]) -> Sweep:
    """Read what `save` wrote, as untrusted input.

    Raises:
        BadInput: with the path and what is wrong.
    """

    def build(metadata: Any, arrays: dict[str, np.ndarray]) -> Sweep:
        if not {"values", "base"} <= set(arrays):
            raise BadInput(f"contains {sorted(arrays)}; expected at least values and base.")
        return sweep_class(arrays["values"], arrays["base"], arrays.get("source"), **_fields(metadata))

    return FILE.load(path, build)


def _fields(metadata: Any) -> dict[str, Any]:
    if not isinstance(metadata, dict) or set(metadata) != {"axes", "labels", "info"}:
        raise BadInput("the metadata must contain axes, labels and info.")
    axes, labels, info = metadata["axes"], metadata["labels"], metadata["info"]
    labelled = isinstance(labels, dict) and all(is_texts(names) for names in labels.values())
    if not (is_texts(axes) and labelled and isinstance(info, dict)):
        raise BadInput("axes must be a list of strings, labels a list of strings for each axis, and info a mapping.")
    return {"axes": tuple(axes), "labels": {axis: tuple(names) for axis, names in labels.items()}, "info": info}
