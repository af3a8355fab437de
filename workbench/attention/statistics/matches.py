"""Which earlier keys hold, or follow, the token of a position: a list of pairs that all heads and layers share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

#: Rows that are compared at once.
ROWS = 256
#: More pairs than this for each position are not listed: a mask of each tile is as fast.
LISTED = 32
#: A key whose matches outnumber the other positions that see it by more than this loses digits when the matches are
#: subtracted from what it receives: the others are then summed themselves.
OUTNUMBERED = 64


class TokenMatches:
    """The matching keys of each position of one prompt: ``{k < q : id_{k − shift} = id_q}``.

    Args:
        ids: the prompt's tokens.
        shift: 0 for earlier places of the same token, 1 for what followed them (induction).

    Attributes:
        n_matches: of each key, how many destinations it matches. n_others: how many later ones it does not match.
        counted: keys that match some destination and that others see, too.
        n_rows: destinations that match a counted key.
    """

    def __init__(self, ids: Int[Tensor, "pos"], shift: int = 0) -> None:
        self._ids, self.length = ids.cpu(), len(ids)
        self._key_ids = torch.cat([torch.full_like(self._ids[:shift], -1), self._ids])[: self.length]
        self.n_matches = torch.zeros(self.length, dtype=torch.int64)
        for _, matches in self._rows():
            self.n_matches[: matches.shape[1]] += matches.sum(0)
        self.n_others = torch.arange(self.length - 1, -1, -1) - self.n_matches
        self.counted = (self.n_matches > 0) & (self.n_others > 0)
        self.n_rows = sum(int((rows & self.counted[: rows.shape[1]]).any(-1).sum()) for _, rows in self._rows())

    def tile(self, low: int, high: int, first: int, end: int) -> Bool[Tensor, "row column"]:
        """The matches of destinations from `low` to `high` among sources from `first` to `end`."""
        same = self._ids[low:high, None] == self._key_ids[None, first:end]
        return same & (torch.arange(first, end)[None] < torch.arange(low, high)[:, None])

    @cached_property
    def listed(self) -> bool:
        """Whether there are few enough pairs for a list, and sums over the others may be had by subtraction."""
        few = int(self.n_matches.sum()) <= LISTED * self.length
        return few and bool((self.n_matches <= OUTNUMBERED * self.n_others)[self.counted].all())

    def pairs(self, low: int = 0, high: int | None = None) -> tuple[Int[Tensor, "pair"], Int[Tensor, "pair"]]:
        """Destination and source of every match of destinations from `low` to `high`."""
        start, end = self._starts[[low, self.length if high is None else high]].tolist()
        dest, src = self._pairs
        return dest[start:end], src[start:end]

    @cached_property
    def _pairs(self) -> tuple[Tensor, Tensor]:
        pairs = [matches.nonzero() + torch.tensor([low, 0]) for low, matches in self._rows()]
        dest, src = torch.cat([torch.empty(0, 2, dtype=torch.int64), *pairs]).unbind(-1)
        return dest.contiguous(), src.contiguous()

    @cached_property
    def _starts(self) -> Tensor:
        """Where the pairs of each destination begin."""
        return torch.searchsorted(self._pairs[0], torch.arange(self.length + 1))

    def _rows(self) -> Iterator[tuple[int, Tensor]]:
        for low in range(0, self.length, ROWS):
            high = min(low + ROWS, self.length)
            yield low, self.tile(low, high, 0, high)
