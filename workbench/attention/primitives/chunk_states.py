"""Gated recurrences that begin anew in each chunk: ``x̃_t = g_t x̃_{t−1} + (1 − g_t) x_t``, channel by channel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Layout:
    """Positions cut into chunks; the first one may have begun before, and the last one may not be full."""

    size: int
    first: int
    length: int

    @property
    def begun(self) -> int:
        """Positions of the first chunk that are in the state before."""
        return self.first % self.size

    @property
    def width(self) -> int:
        """Positions that a chunk is filled up to: fewer than `size` where there is one that is not full."""
        return min(self.size, self.begun + self.length)

    @property
    def full(self) -> int:
        """Chunks that end within."""
        return (self.begun + self.length) // self.size

    def cut(self, x: Tensor, value: float = 0.0) -> Tensor:
        """``[batch, head, pos, d]`` as ``[batch, head, chunk, place, d]``, filled up on both sides."""
        behind = -(self.begun + self.length) % self.width
        return F.pad(x, (0, 0, self.begun, behind), value=value).unflatten(2, (-1, self.width))

    def joined(self, x: Tensor) -> Tensor:
        """The inverse."""
        return x.flatten(2, 3)[:, :, self.begun : self.begun + self.length]

    def place(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Each position's chunk among these, and its place in it."""
        at = torch.arange(self.length, device=device) + self.begun
        return at // self.size, at % self.size


def scan(
    x: Float[Tensor, "batch head pos d"],
    gate: Float[Tensor, "batch head pos d"],
    before: Float[Tensor, "batch_or_1 head d"] | None,
    layout: Layout,
) -> Float[Tensor, "batch head chunk place d"]:
    """The running state at each position; the first chunk goes on from the state `before`."""
    inputs, gate = layout.cut((1 - gate) * x), layout.cut(gate, 1.0)
    state = torch.zeros_like(inputs[:, :, :, 0])
    if before is not None:
        state = torch.cat([before[:, :, None].expand(state[:, :, :1].shape).to(state), state[:, :, 1:]], 2)
    states = []
    for inside in range(layout.width):
        state = gate[:, :, :, inside] * state + inputs[:, :, :, inside]
        states.append(state)
    return torch.stack(states, 3)


def present(
    padding: Bool[Tensor, "batch pos"] | None,
    before: Bool[Tensor, "state_batch"] | None,
    layout: Layout,
    device: torch.device,
) -> Bool[Tensor, "batch_or_1 1 chunk place 1"]:
    """Whether a chunk has had a position that is not padding."""
    real = torch.ones(1, layout.length, device=device) if padding is None else padding.float()
    real = layout.cut(real[:, None, :, None])
    if before is not None:
        real = real.expand(max(len(real), len(before)), -1, -1, -1, -1).clone()
        real[:, 0, 0, 0, 0] = torch.maximum(real[:, 0, 0, 0, 0], before.float())
    return real.cummax(3).values > 0


def shares(
    gate: Float[Tensor, "batch head pos d"], layout: Layout
) -> Float[Tensor, "batch head chunk place source_place d"]:
    """The weight of each source in the running states of its chunk."""
    inputs, gate = layout.cut(1 - gate), layout.cut(gate, 1.0)
    row = torch.zeros_like(gate)
    rows = []
    for inside in range(layout.width):
        own = F.one_hot(torch.tensor(inside, device=gate.device), layout.width)[:, None]
        row = row * gate[:, :, :, inside, None] + own * inputs
        rows.append(row)
    return torch.stack(rows, 3)
