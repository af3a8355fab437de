"""`Call`: what an operator is called with besides q, k and v."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Bool
from torch import Tensor


@dataclass(frozen=True)
class Call:
    """One call of an operator. Queries are those of the *last* ``dest`` of ``src`` positions: a call serves whole
    prompts, rows that resume in the middle, and one row alone.

    Attributes:
        settings: every setting of the operator by name.
        scale: what softmax forms multiply ``q kᵀ`` by.
        causal: whether a position may see earlier ones and itself alone. False for an operator that replaces causality
            by its own (`Operator.causal` is ``"block"`` or ``"no"``).
        layer, n_layers: which layer it is; 0 of 1 outside a model.
        n_kv_heads: how many key/value heads the query heads share; keys and values come with one copy a query head.
        visible: what the model's own mask lets each destination see, causality included; None where that is what
            `causal` says. Only softmax forms read it.
        padding: True for positions that hold something, False for padding; None where all do.
        first: the position of the first key: 0 but where an operator resumes from its state.
        grid: sizes of the axes that the positions lie on in row-major order, ``()`` where they are a sequence.
        before: positions ahead of the grid (a class token).
        gates: by name, one entry a position (``[batch, src, ...]``), from the residual stream.
        data: by name, whatever else the operator needs: its parameters, or data of the user's.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    causal: bool = True
    layer: int = 0
    n_layers: int = 1
    n_kv_heads: int = 1
    visible: Bool[Tensor, "batch_or_1 head_or_1 dest src"] | None = None
    padding: Bool[Tensor, "batch src"] | None = None
    first: int = 0
    grid: tuple[int, ...] = ()
    before: int = 0
    gates: Mapping[str, Tensor] = field(default_factory=dict)
    data: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        """A setting."""
        return self.settings[name]

    def positions(self, start: int, stop: int | None = None) -> Call:
        """The same call for keys `start` to `stop` alone, of an operator that keeps a state."""
        at = slice(start, stop)
        return replace(
            self,
            first=self.first + start,
            padding=None if self.padding is None else self.padding[:, at],
            gates={name: gate[:, at] for name, gate in self.gates.items()},
        )
