"""What one attention layer does differently during one run, and the functions that read and write its activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from workbench.models.prefix_attention import Prefix

Tap = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True)
class PartialTap:
    """A tap on some heads, and some destinations, of a pattern or of scores, so that only these need to be computed.
    Called with a whole pattern it gets, and changes, its part of it.

    Attributes:
        tap: gets and returns ``[batch, of heads, of rows, src]``.
        heads: which heads, None for all. rows: which destination positions of the whole input, None for all.
    """

    tap: Tap
    heads: tuple[int, ...] | None = None
    rows: tuple[int, ...] | None = None

    def __call__(self, x: Shaped[Tensor, "batch head dest src"]) -> Tensor | None:
        heads, rows = self.indices(x)
        new = self.tap(x[:, heads[:, None], rows])
        if new is None:
            return None
        x = x.clone()
        x[:, heads[:, None], rows] = new
        return x

    def indices(self, x: Shaped[Tensor, "batch head dest src"]) -> tuple[Tensor, Tensor]:
        """Its heads and rows among those of a whole pattern, whose destinations are the last of the sources."""
        first = x.shape[3] - x.shape[2]
        heads = range(x.shape[1]) if self.heads is None else self.heads
        rows = range(x.shape[2]) if self.rows is None else [row - first for row in self.rows]
        return torch.tensor(list(heads)), torch.tensor(list(rows))


@dataclass
class AttentionInputs:
    """What one layer's attention was called with in a run, to resume it."""

    keys: Float[Tensor, "batch kv_head pos d_head"]
    values: Float[Tensor, "batch kv_head pos d_value"]
    mask: Shaped[Tensor, "batch_or_1 head_or_1 dest src"] | None
    arguments: dict[str, Any] = field(default_factory=dict)
    #: Of a layer with another operator, by name, what that operator has at each position.
    gates: dict[str, Shaped[Tensor, "batch pos *rest"]] = field(default_factory=dict)


@dataclass
class AttentionEdits:
    """What one attention layer does differently during one run.

    Attributes:
        taps: functions on ``q``, ``k``, ``v``, ``z`` (``[batch, pos, head, d_head]``) and on ``scores`` and
            ``pattern`` (``[batch, head, dest, src]``); what they return replaces the activation.
        prefix: earlier positions' keys and values, when the layer resumes.
        expand: give every query head its own copy of k or v, so that an edit reaches one head only.
        on_inputs: called with the layer's keys, values and mask.
        frozen: z to return without computing attention at all.
        entering: what enters the first layer at these positions, for an operator that reads token embeddings.
    """

    taps: dict[str, Tap] = field(default_factory=dict)
    prefix: Prefix | None = None
    expand: frozenset[str] = frozenset()
    on_inputs: Callable[[AttentionInputs], None] | None = None
    frozen: Float[Tensor, "batch pos head d_value"] | None = None
    entering: Float[Tensor, "batch pos d_model"] | None = None

    @property
    def on_pattern(self) -> bool:
        """Whether the pattern or the scores are tapped."""
        return "pattern" in self.taps or "scores" in self.taps

    def parts(self) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
        """The heads and the destinations whose patterns are tapped, None for all."""
        taps = [self.taps[site] for site in ("scores", "pattern") if site in self.taps]
        if len(taps) != 1 or not isinstance(taps[0], PartialTap):
            return None, None
        return taps[0].heads, taps[0].rows


def expanded(x: Tensor, n_heads: int, expand: bool = True) -> Tensor:
    """Keys or values with one copy for each query head, where that is needed."""
    return x.repeat_interleave(n_heads // x.shape[1], dim=1) if expand and x.shape[1] != n_heads else x


def tapped_site(edits: AttentionEdits, site: str, x: Tensor) -> Tensor:
    """An activation after its tap."""
    tap = edits.taps.get(site)
    new = None if tap is None else tap(x)
    return x if new is None else new


def tapped_heads(edits: AttentionEdits, site: str, x: Tensor) -> Tensor:
    """`tapped_site` in TransformerLens's layout, ``[batch, pos, head, d_head]``."""
    tap = edits.taps.get(site)
    new = None if tap is None else tap(x.transpose(1, 2))
    return x if new is None else new.transpose(1, 2)
