"""What an operator knows of the layer that it goes into, and what it has of its own there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

Settings = Mapping[str, Any]
State = tuple[Tensor, ...]


@dataclass(frozen=True)
class LayerShape:
    """The attention layer that an operator goes into: `n_kv_heads` key/value heads serve `n_heads` query heads."""

    layer: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_value: int
    d_model: int


#: ``project("query" | "key" | "value", x) -> [batch, pos, head, d]``: the layer's own projections, before any norm or
#: rotation, one copy a query head.
Project = Callable[[str, Tensor], Tensor]


class OperatorModule(nn.Module):
    """What an operator has of its own in a layer: it is registered on the attention module."""

    def gates(self, x: Float[Tensor, "batch pos d_model"], project: Project) -> dict[str, Tensor]:
        """By name, one entry a position, ``[batch, pos, ...]``, of what enters the attention module."""
        return {}

    def data(self) -> dict[str, Tensor]:
        """By name, what does not depend on the input."""
        return {}
