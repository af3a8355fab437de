"""Hashes of tensors: all their bytes once, then a sample of them that is cheap enough to take at every call."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor


def hash_tensors(tensors: Sequence[tuple[str, Tensor]]) -> bytes:
    """20 bytes that depend on every name, shape, dtype and number."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        sums = list(pool.map(lambda pair: hashlib.blake2b(_bytes(pair[1]), digest_size=16).hexdigest(), tensors))
    weights = [(name, str(x.dtype), tuple(x.shape), total) for (name, x), total in zip(tensors, sums, strict=True)]
    return hashlib.blake2b(repr(weights).encode(), digest_size=20).digest()


def sample(tensors: Sequence[tuple[str, Tensor]], step: int) -> tuple[Any, ...]:
    """Every version counter, and a hash of each `step`-th row and column: another value says that the tensors have
    changed."""
    state = hashlib.blake2b(digest_size=16)
    counters = []
    for name, x in tensors:
        counters.append((name, id(x), 0 if x.is_inference() else x._version))
        rows = x.detach()[::step, ::step] if x.ndim > 1 else x.detach()
        state.update(_bytes(rows))
    return state.digest(), tuple(counters)


def _bytes(x: Tensor) -> memoryview:
    x = x.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    if len(x) == 1:  # contiguous whatever its stride is, and views need a stride of one
        x = x.new_empty(1).copy_(x)
    return x.view(torch.uint8).numpy().data
