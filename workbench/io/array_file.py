"""A result on disk: named arrays of float64 and a JSON text in one safetensors file, read as untrusted input.

The metadata hold ``format``, the JSON text under one field, and the SHA-256 of that text and the arrays.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeVar

import numpy as np

from workbench import arguments
from workbench.errors import BadInput, UsageError
from workbench.io.files import jsonable, parse_json, save_atomic, sha256_of_arrays

Result = TypeVar("Result")


@dataclass(frozen=True)
class ArrayFile:
    """A file format.

    Attributes:
        format: its name and version, the metadata's ``format``.
        field: the metadata's field with the JSON text.
        writer: what writes such files, for messages (``"Sweep.save"``).
        arrays: the arrays in it, for messages.
        is_array: whether an array may have that name.
    """

    format: str
    field: str
    writer: str
    arrays: str
    is_array: Callable[[str], bool]

    def save(self, path: str | PathLike[str], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
        """Write arrays and JSON-able `metadata`, whole or not at all.

        Raises:
            UsageError: `path` does not end in .safetensors.
        """
        from safetensors.numpy import save as to_bytes

        arguments.file_path("path", path, ending=".safetensors")
        named = {name: np.array(array, dtype=np.float64, order="C") for name, array in arrays.items()}
        text = json.dumps(jsonable(metadata), allow_nan=False)
        header = {"format": self.format, self.field: text, "sha256": sha256_of_arrays(text, named)}
        save_atomic(path, to_bytes(named, metadata=header))

    def load(self, path: str | PathLike[str], build: Callable[[Any, dict[str, np.ndarray]], Result]) -> Result:
        """What `build` makes of the JSON value and the arrays. Sizes are bounded by the file's own, which safetensors
        checks.

        Args:
            build: raises `BadInput` or `UsageError` where they are not as `save` writes them; called before the hash is
                compared, so that its message is the more telling one.

        Raises:
            BadInput: with the path and what is wrong.
        """
        from safetensors import SafetensorError, safe_open

        path = arguments.file_path("path", path)
        if not path.is_file():
            raise BadInput(f"{path} does not exist or is not a file.")
        arrays: dict[str, np.ndarray] = {}
        try:
            with safe_open(path, framework="numpy") as file:
                header = file.metadata()
                if not header or header.get("format") != self.format or self.field not in header:
                    raise BadInput(
                        f"{path}: the metadata do not name the format {self.format!r}. Write such files with "
                        f"{self.writer}."
                    )
                metadata = parse_json(header[self.field], str(path))
                for name in file.keys():
                    dtype = file.get_slice(name).get_dtype()
                    if not self.is_array(name) or dtype != "F64":
                        raise BadInput(f"{path}: contains {name!r} as {dtype}; expected {self.arrays}, as F64.")
                    arrays[name] = file.get_tensor(name)
        except SafetensorError as error:
            raise BadInput(
                f"{path} is not a complete safetensors file ({error}): it is truncated or altered, or has another "
                "format."
            ) from None
        try:
            result = build(metadata, arrays)
        except (BadInput, UsageError) as error:
            raise BadInput(f"{path}: {error}") from None
        if header.get("sha256") != sha256_of_arrays(header[self.field], arrays):
            raise BadInput(f"{path} was altered since it was saved: its SHA-256 does not match its content.")
        return result


def is_texts(value: Any) -> bool:
    """Whether a JSON value is a list of texts."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
