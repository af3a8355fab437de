"""Head scores on disk: one safetensors file, read as untrusted input (no pickle, every field checked)."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import BadInput
from workbench.head_scores.result import HeadScores
from workbench.io.files import jsonable, parse_json, save_atomic, sha256_of_arrays

FORMAT = "workbench.head_scores/1"
#: Field → the number of axes its arrays may have.
FIELDS = {"values": (2,), "samples": (3,), "uniform": (0, 2), "random": (2,), "pairs": (2,)}


def save(scores: HeadScores, path: str | PathLike[str]) -> None:
    """Write `scores` whole or not at all."""
    from safetensors.numpy import save as to_bytes

    arrays = {
        f"{field}/{name}": np.array(x, dtype=np.float64, order="C")
        for field in FIELDS
        for name, x in getattr(scores, field).items()
    }
    about = {"info": scores.info, "lens": scores.lens.to_dict("records"), "order": list(scores.values)}
    text = json.dumps(jsonable(about), allow_nan=False)
    metadata = {"format": FORMAT, "scores": text, "sha256": sha256_of_arrays(text, arrays)}
    save_atomic(path, to_bytes(arrays, metadata=metadata))


def load(path: str | PathLike[str]) -> HeadScores:
    """Read what `save` wrote.

    Raises:
        BadInput: with the path and what is wrong.
    """
    import pandas as pd
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise BadInput(f"{path} does not exist or is no file.")
    fields: dict[str, dict[str, Any]] = {field: {} for field in FIELDS}
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            about = _about(metadata, str(path))
            for key in file.keys():
                field, _, name = key.partition("/")
                if field not in FIELDS or not name or file.get_slice(key).get_dtype() != "F64":
                    raise BadInput(f"{path}: {key!r} is no F64 array of {', '.join(FIELDS)}.")
                fields[field][name] = file.get_tensor(key)
    except SafetensorError as error:
        raise BadInput(
            f"{path} is no whole safetensors file ({error}): it is truncated, altered or something else."
        ) from None
    _check(fields, about["order"], str(path))
    arrays = {f"{field}/{name}": x for field, named in fields.items() for name, x in named.items()}
    if metadata.get("sha256") != sha256_of_arrays(metadata["scores"], arrays):
        raise BadInput(f"{path} was altered since it was saved: its SHA-256 does not fit its content.")
    values = {name: fields["values"][name] for name in about["order"]}
    return HeadScores(**{**fields, "values": values}, lens=pd.DataFrame(about["lens"]), info=about["info"])


def _about(metadata: Any, path: str) -> dict[str, Any]:
    if not metadata or metadata.get("format") != FORMAT or "scores" not in metadata:
        raise BadInput(
            f"{path}: the metadata do not name the format {FORMAT!r}; write such files with HeadScores.save."
        )
    about = parse_json(metadata["scores"], path)
    right = isinstance(about, dict) and set(about) == {"info", "lens", "order"}
    if not right or not isinstance(about["info"], dict) or not _rows(about["lens"]) or not _texts(about["order"]):
        raise BadInput(f"{path}: the metadata must hold info (a mapping), lens (rows) and order (names).")
    return about


def _check(fields: dict[str, dict[str, Any]], order: list[str], path: str) -> None:
    if not order or set(order) != set(fields["values"]):
        raise BadInput(f"{path}: the names in order are not those of the values.")
    shape = fields["values"][order[0]].shape
    expected = {"values": shape, "uniform": shape, "random": shape, "samples": shape, "pairs": (np.prod(shape),) * 2}
    for field, arrays in fields.items():
        for name, x in arrays.items():
            inner = x.shape[1:] if field == "samples" else x.shape
            if x.ndim not in FIELDS[field] or (x.ndim and inner != expected[field]):
                raise BadInput(f"{path}: {field}/{name} has shape {x.shape}, which does not fit {shape} heads.")


def _rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
