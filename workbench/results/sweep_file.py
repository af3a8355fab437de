"""A sweep on disk: one safetensors file, read as untrusted input (no pickle, every field checked)."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import BadInput, UsageError
from workbench.io.files import jsonable, parse_json, save_atomic, sha256_of_arrays
from workbench.results.sweep import Sweep

FORMAT = "workbench.sweep/1"


def save(sweep: Sweep, path: str | PathLike[str]) -> None:
    """Write `sweep` whole or not at all."""
    from safetensors.numpy import save as to_bytes

    tensors = {"values": sweep.values, "base": sweep.base, "source": sweep.source}
    about = {"axes": sweep.axes, "labels": sweep.labels, "info": sweep.info}
    text = json.dumps(jsonable(about), allow_nan=False)
    arrays = {name: np.ascontiguousarray(t) for name, t in tensors.items() if t is not None}
    metadata = {"format": FORMAT, "sweep": text, "sha256": sha256_of_arrays(text, arrays)}
    save_atomic(path, to_bytes(arrays, metadata=metadata))


def load(path: str | PathLike[str]) -> Sweep:
    """Read what `save` wrote. Sizes are bounded by the file's own size, which safetensors checks against its header.

    Raises:
        BadInput: with the path and what is wrong.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise BadInput(f"{path} does not exist or is no file.")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            about = _about(metadata, str(path))
            arrays = {name: _array(file, name, str(path)) for name in file.keys()}
    except SafetensorError as error:
        raise BadInput(
            f"{path} is no whole safetensors file ({error}): it is truncated, altered or something else."
        ) from None
    if not {"values", "base"} <= set(arrays):
        raise BadInput(f"{path}: holds {sorted(arrays)}; expected at least values and base.")
    try:
        sweep = Sweep(arrays["values"], arrays["base"], arrays.get("source"), **about)
    except UsageError as error:
        raise BadInput(f"{path}: {error}") from None
    if metadata.get("sha256") != sha256_of_arrays(metadata["sweep"], arrays):
        raise BadInput(f"{path} was altered since it was saved: its SHA-256 does not fit its content.")
    return sweep


def _array(file: Any, name: str, path: str) -> np.ndarray:
    dtype = file.get_slice(name).get_dtype()
    if name not in ("values", "base", "source") or dtype != "F64":
        raise BadInput(f"{path}: holds {name!r} as {dtype}; expected values, base and perhaps source, as F64.")
    return file.get_tensor(name)


def _about(metadata: Any, path: str) -> dict[str, Any]:
    if not metadata or metadata.get("format") != FORMAT or "sweep" not in metadata:
        raise BadInput(f"{path}: the metadata do not name the format {FORMAT!r}; write such files with Sweep.save.")
    about = parse_json(metadata["sweep"], path)
    if not isinstance(about, dict) or set(about) != {"axes", "labels", "info"}:
        raise BadInput(f"{path}: the metadata must hold axes, labels and info.")
    axes, labels, info = about["axes"], about["labels"], about["info"]
    named = isinstance(labels, dict) and all(_texts(names) for names in labels.values())
    if not (_texts(axes) and named and isinstance(info, dict)):
        raise BadInput(f"{path}: axes must be a list of texts, labels a list of texts for each axis, info a mapping.")
    return {"axes": tuple(axes), "labels": {a: tuple(names) for a, names in labels.items()}, "info": info}


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
