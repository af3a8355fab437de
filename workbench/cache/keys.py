"""Names of cached things: hashes of everything that can change their value.

An activation is named by the model's identity, the ids of one unpadded prompt and a hook name; a result by those of its
runs and every argument. Model *names*, seeds of draws and the order of a list are in no key: the ids are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from workbench.inputs.paired import PairedInputs
from workbench.io.files import jsonable

#: Bytes of a key.
SIZE = 20
#: Raise it whenever the engine's arithmetic, or what a key stands for, changes: all older entries then are misses.
ENGINE = 1


def digest(*parts: Any) -> bytes:
    """BLAKE2b of the parts, 20 bytes. Parts are tensors, bytes, or anything `workbench.io.files.jsonable` takes."""
    state = hashlib.blake2b(digest_size=SIZE)
    for part in parts:
        data = _bytes(part)
        state.update(len(data).to_bytes(8, "little") + data)
    return state.digest()


def _bytes(part: Any) -> bytes:
    if isinstance(part, bytes):
        return part
    if isinstance(part, Tensor):
        x = part.detach().cpu().contiguous()
        return f"{x.dtype}{list(x.shape)}".encode() + x.reshape(-1).view(torch.uint8).numpy().tobytes()
    return json.dumps(jsonable(part), sort_keys=True, separators=(",", ":")).encode()


def activation(identity: bytes, ids: Tensor, hook: str, edits: bytes | None = None) -> bytes:
    """The key of one hook's activation in the run of one prompt, under the edits of that hash, if any."""
    return digest(identity, "activation", ids, hook, *(() if edits is None else (edits,)))


def context(facts: Mapping[str, Any]) -> bytes:
    """The part of every key that one model on one machine shares; see `workbench.models.identity`."""
    return digest("context", ENGINE, facts)


def hash_example(inputs: PairedInputs, i: int) -> bytes:
    """Everything that the engine knows of one example."""
    return digest(
        inputs.clean[i],
        inputs.corrupt[i],
        inputs.answer[i],
        inputs.wrong[i],
        inputs.options[i],
        dict(inputs.positions[i]),
        *((dict(inputs.regions[i]),) if inputs.regions else ()),
    )


def hash_inputs(inputs: PairedInputs) -> bytes:
    """A hash of whole inputs, for values that are taken over all of them."""
    return digest(*(hash_example(inputs, i) for i in range(len(inputs))))
