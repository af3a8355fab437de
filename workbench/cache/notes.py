"""Small results that are no arrays, such as verdicts and whole answers: JSON in a block of the cache."""

from __future__ import annotations

import json
from typing import Any

import torch

from workbench.cache.store import Store
from workbench.io.files import jsonable


def read_note(store: Store | None, key: bytes | None) -> Any:
    """What was noted under a key, or None."""
    block = None if store is None or key is None else store.read(key)
    return None if block is None else json.loads(bytes(block.tolist()))


def write_note(store: Store | None, key: bytes | None, value: Any) -> None:
    """Note something, JSON-able, where there is a store and a key."""
    if store is not None and key is not None:
        text = json.dumps(jsonable(value)).encode()
        store.put("result", {"values": ([key], torch.frombuffer(bytearray(text), dtype=torch.uint8)[None])})
