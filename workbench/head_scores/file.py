"""Head scores on disk: arrays called ``values/induction`` and the like, with the lens, names and info as JSON."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import BadInput
from workbench.io.array_file import ArrayFile, is_texts

if TYPE_CHECKING:
    from workbench.head_scores.result import HeadScores

#: Field → the number of axes its arrays may have.
FIELDS = {"values": (2,), "samples": (3,), "uniform": (0, 2), "random": (2,), "pairs": (2,)}


def _is_array(name: str) -> bool:
    field, _, score = name.partition("/")
    return field in FIELDS and bool(score)


FILE = ArrayFile(
    "workbench.head_scores/1", "scores", "HeadScores.save", f"FIELD/SCORE with {', '.join(FIELDS)}", is_array=_is_array
)


def save(scores: HeadScores, path: str | PathLike[str]) -> None:
    """Write `scores` whole or not at all."""
    arrays = {f"{field}/{name}": array for field in FIELDS for name, array in getattr(scores, field).items()}
    FILE.save(path, arrays, {"info": scores.info, "lens": scores.lens.to_dict("records"), "order": list(scores.values)})


def load(path: str | PathLike[str], scores_class: type[HeadScores]) -> HeadScores:
    """Read what `save` wrote, as untrusted input.

    Raises:
        BadInput: with the path and what is wrong.
    """
    import pandas as pd

    def build(metadata: Any, arrays: dict[str, np.ndarray]) -> HeadScores:
        _check_metadata(metadata)
        fields: dict[str, dict[str, Any]] = {field: {} for field in FIELDS}
        for key, array in arrays.items():
            field, _, name = key.partition("/")
            fields[field][name] = array
        _check_shapes(fields, metadata["order"])
        fields["values"] = {name: fields["values"][name] for name in metadata["order"]}
        return scores_class(**fields, lens=pd.DataFrame(metadata["lens"]), info=metadata["info"])

    return FILE.load(path, build)


def _check_metadata(metadata: Any) -> None:
    complete = isinstance(metadata, dict) and set(metadata) == {"info", "lens", "order"}
    if not complete or not (
        isinstance(metadata["info"], dict)
        and is_texts(metadata["order"])
        and isinstance(metadata["lens"], list)
        and all(isinstance(row, dict) for row in metadata["lens"])
    ):
        raise BadInput("the metadata must contain info (a mapping), lens (rows) and order (names).")


def _check_shapes(fields: dict[str, dict[str, Any]], order: list[str]) -> None:
    if not order or set(order) != set(fields["values"]):
        raise BadInput("the names in order are not the names of the values.")
    shape = fields["values"][order[0]].shape
    expected = {"values": shape, "uniform": shape, "random": shape, "samples": shape, "pairs": (np.prod(shape),) * 2}
    for field, arrays in fields.items():
        for name, x in arrays.items():
            inner = x.shape[1:] if field == "samples" else x.shape
            if x.ndim not in FIELDS[field] or (x.ndim and inner != expected[field]):
                raise BadInput(f"{field}/{name} has shape {x.shape}, which does not fit {shape} heads.")
