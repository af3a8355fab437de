"""Values that make no sense for nearly every parameter, and the parameters that take some of them everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np


class Odd:
    """An object that is nothing in particular."""

    def __init__(self, *_: object, **__: object) -> None:
        pass


def returns_none(*_: object, **__: object) -> None:
    """A function that does nothing."""


#: Values that make no sense for nearly every parameter.
ODD: dict[str, Any] = {
    "True": True,
    "-1": -1,
    "0": 0,
    "0.5": 0.5,
    "huge": 10**30,
    "nan": float("nan"),
    "inf": float("inf"),
    "''": "",
    "word": "nonsense",
    "NUL": "a\0b",
    "bytes": b"z",
    "None": None,
    "[]": [],
    "[[0]]": [[0]],
    "[None]": [None],
    "[True]": [True],
    "[0, 0]": [0, 0],
    "[word]": ["nonsense"],
    "{}": {},
    "{word: 1}": {"nonsense": 1},
    "{0: None}": {0: None},
    "object": Odd(),
    "function": returns_none,
    "class": Odd,
    "array": np.zeros((2, 3)),
}

TEXTS = {"word", "NUL"}

ANY_TEXT = {"''", *TEXTS}

MAPPINGS = {"{}", "{word: 1}", "{0: None}"}

FUNCTIONS = {"function", "class"}

ONE_TEXT = {*TEXTS, "[word]"}

#: What a parameter of this name takes of the odd values, wherever it stands.
TAKES_EVERYWHERE: dict[str, set[str]] = {
    "cache": {"None", "word"},  # a folder
    "progress": {"None", *FUNCTIONS},
    "mean_over": {"None", *ONE_TEXT},  # a list of texts is inputs
    "tokenizer": {"None"},
    "layers": {"None", "0"},
    "heads": {"None", "0"},
    "positions": {"None"},
    "seed": {"0", "huge"},
    "path": {"word"},
    "max_length": {"huge", "None"},
    "edits": {"[]"},
    "direction": {"None"},
    "memory_gb": {"0.5", "huge"},
    "quantity": {"None"},
    "where": {"None"},
    "layer": {"0"},
    "head": {"0"},
    "k": {"huge"},
    "percent": {"0.5"},
    "steps": {"None", "0"},
    "factor": {"-1", "0", "0.5", "huge"},
    "u": {"0", "0.5"},
}
