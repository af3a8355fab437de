"""Masks of groups: equal labels see each other."""

from __future__ import annotations

from jaxtyping import Bool, Int
from torch import Tensor

from workbench.attention.primitives.visible import rows


def same(labels: Int[Tensor, "batch_or_1 src"], dest: int) -> Bool[Tensor, "batch_or_1 1 dest src"]:
    """Whether the last `dest` positions have each source's label."""
    destination, source = rows(labels, dest)
    return destination == source
