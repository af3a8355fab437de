"""Positions in blocks: means of blocks, and the selection of the best with one rule for ties: the lowest index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from workbench.errors import UsageError


@dataclass(frozen=True)
class Blocks:
    """A partition of the positions.

    Attributes:
        labels: the block of each position, 0 … `count` − 1.
        count: how many blocks there are, none of them empty.
    """

    labels: Int[Tensor, "pos"]
    count: int

    @classmethod
    def even(cls, length: int, size: int, device: torch.device) -> Blocks:
        """Of `size` positions each; the last one may have fewer."""
        return cls(torch.arange(length, device=device) // size, -(-length // size))

    @classmethod
    def on_grid(cls, grid: Sequence[int], counts: Sequence[int], device: torch.device) -> Blocks:
        """At most `counts` blocks along each axis, of equal size but for the last one; row-major."""
        sizes = [-(-size // min(count, size)) for size, count in zip(grid, counts, strict=True)]
        numbers = [-(-size // step) for size, step in zip(grid, sizes, strict=True)]
        labels = torch.zeros(tuple(grid), dtype=torch.long, device=device)
        for axis, (size, step, number) in enumerate(zip(grid, sizes, numbers, strict=True)):
            along = torch.arange(size, device=device) // step
            labels = labels * number + along.view([-1 if i == axis else 1 for i in range(len(grid))])
        return cls(labels.flatten(), prod(numbers))

    def behind(self, before: int) -> Blocks:
        """The same behind `before` positions, which are block 0 where there are any."""
        if not before:
            return self
        return Blocks(F.pad(self.labels + 1, (before, 0)), self.count + 1)

    @cached_property
    def sizes(self) -> Int[Tensor, "block"]:
        return torch.bincount(self.labels, minlength=self.count)

    @cached_property
    def offsets(self) -> list[int]:
        """Where each block begins once the positions are in `order`, and the end."""
        return [0, *self.sizes.cumsum(0).tolist()]

    @cached_property
    def first(self) -> Int[Tensor, "block"]:
        """The first position of each block."""
        return self.order[self.offsets[:-1]]

    @cached_property
    def last(self) -> Int[Tensor, "block"]:
        """The last position of each block."""
        return self.order[[end - 1 for end in self.offsets[1:]]]

    @cached_property
    def order(self) -> Int[Tensor, "pos"]:
        """The positions block by block."""
        return self.labels.argsort(stable=True)

    @cached_property
    def in_order(self) -> bool:
        """Whether the blocks follow each other as the positions do."""
        return bool((self.labels[1:] >= self.labels[:-1]).all())

    def means(
        self, x: Float[Tensor, "batch head pos d"], padding: Bool[Tensor, "batch pos"] | None = None
    ) -> Float[Tensor, "batch head block d"]:
        """The mean of each block's positions without padding, at least in float32; 0 where there are none."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        weight = torch.ones_like(self.labels, dtype=x.dtype)[None] if padding is None else padding.to(x.dtype)
        number = weight.new_zeros(weight.shape[0], self.count).index_add_(1, self.labels, weight)
        total = x.new_zeros(*x.shape[:2], self.count, x.shape[3])
        total = total.index_add_(2, self.labels, x * weight[:, None, :, None])
        return total / number.clamp(min=1)[:, None, :, None]

    def occupied(self, padding: Bool[Tensor, "batch pos"] | None) -> Bool[Tensor, "batch_or_1 block"]:
        """Which blocks hold anything but padding."""
        if padding is None:
            return torch.ones(1, self.count, dtype=torch.bool, device=self.labels.device)
        number = torch.zeros(padding.shape[0], self.count, dtype=torch.long, device=padding.device)
        return number.index_add_(1, self.labels, padding.long()) > 0

    def own(self) -> Bool[Tensor, "pos block"]:
        """Which block each position is in."""
        return self.labels[:, None] == torch.arange(self.count, device=self.labels.device)


def ranks(scores: Float[Tensor, "*rest n"]) -> Int[Tensor, "*rest n"]:
    """The place of each score among those of its row, 0 for the largest; of equal ones the lowest index is first."""
    order = scores.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(scores.shape[-1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places)


def top(scores: Float[Tensor, "*rest n"], count: int | Tensor) -> Bool[Tensor, "*rest n"]:
    """The `count` largest scores of each row, by `ranks`; −∞ is never among them."""
    return (ranks(scores) < count) & (scores > -torch.inf)


def require_whole(name: str, dest: int, src: int) -> None:
    """Of an operator that selects by queries together.

    Raises:
        UsageError: there are fewer queries than keys.
    """
    if dest != src:
        raise UsageError(
            f"q=<{dest} positions>: expected {src}, as k has, because {name} selects by all queries together. "
            "Run whole prompts."
        )
