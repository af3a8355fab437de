"""Blocks to put into a store, and the shard that holds them."""

from __future__ import annotations

from pathlib import Path

import torch

from workbench.cache import Store
from workbench.cache.keys import digest

KEYS = [digest("test", i) for i in range(6)]


def rows(seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(seed)).to(dtype)


def shard_of(store: Store) -> Path:
    (path,) = store.shards.glob("*.safetensors")
    return path
