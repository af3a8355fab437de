"""What a head's attention pattern looks like on an image: how far it looks, and what it gives to positions that are no
patches.

Each score is a number of one pattern ``A [dest, src]`` of N positions: those that the model adds (CLS, registers), then
patches in rows and columns. Attention sees every position: a head that attends uniformly has ``A[q, k] = 1 / N``, and
its scores have closed forms (`uniform_scores`).

The distance is the *mean attention distance* of Dosovitskiy et al. (2021, figure 7), in patches instead of pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

#: Raise it when a formula changes: stored scores are then computed again.
VERSION = 1
#: A pattern whose difference from the uniform one is at most so long (that one has length 1) differs by rounding.
ROUNDING = 1e-6
#: What each position that a model adds is called, or begins with.
CLS, REGISTER = "cls", "register"
NAMES = ("entropy", "distance", "to_cls", "to_registers", "to_self")

Pattern = Float[Tensor, "*batch dest src"]


@dataclass(frozen=True)
class Layout:
    """Where the positions of an image are.

    Attributes:
        added: the names of the positions before the patches.
        rows, columns: of patches.
    """

    added: tuple[str, ...]
    rows: int
    columns: int

    @property
    def length(self) -> int:
        """How many positions there are."""
        return len(self.added) + self.rows * self.columns

    def called(self, name: str) -> Bool[Tensor, "pos"]:
        """Which positions have a name that begins so."""
        names = [added.startswith(name) for added in self.added]
        return torch.tensor([*names, *[False] * (self.rows * self.columns)])

    def distances(self) -> Float[Tensor, "patch patch"]:
        """The distance of each two patches' centres, in patches."""
        row, column = torch.meshgrid(torch.arange(self.rows), torch.arange(self.columns), indexing="ij")
        places = torch.stack([row.flatten(), column.flatten()], 1).double()
        return (places[:, None] - places[None]).square().sum(-1).sqrt()


def scores_of(A: Pattern, layout: Layout) -> dict[str, Float[Tensor, "*batch"]]:
    """Every score of `NAMES`, but those of positions that the model does not add:

    - ``entropy``: mean over q of ``−Σ_k A log A``, in nats.
    - ``distance``: mean over patches q of ``Σ_k A[q, k] d(q, k) / Σ_k A[q, k]`` over patches k, d the distance of their
      centres, in patches; rows that give the patches no weight at all are left out.
    - ``to_cls``: mean over q of ``A[q, cls]``; ``to_registers``: of ``Σ_k A[q, k]`` over registers k; ``to_self``: of
      ``A[q, q]``.
    """
    patches = A[..., len(layout.added) :, len(layout.added) :]
    away = (patches * layout.distances().to(patches)).sum(-1)
    scores = {
        "entropy": torch.special.entr(A).sum(-1).mean(-1),
        "distance": (away / patches.sum(-1)).nanmean(-1),
        "to_self": A.diagonal(0, -2, -1).mean(-1),
    }
    for score, name in (("to_cls", CLS), ("to_registers", REGISTER)):
        if (keys := layout.called(name)).any():
            scores[score] = A[..., keys.to(A.device)].sum(-1).mean(-1)
    return {name: scores[name] for name in NAMES if name in scores}


def uniform_scores(layout: Layout) -> dict[str, float]:
    """The same for a head that attends uniformly: ``log N``, the mean distance of two patches, and 1 / N for each
    position that is counted."""
    n = layout.length
    scores = {"entropy": math.log(n), "distance": float(layout.distances().mean()), "to_self": 1 / n}
    for score, name in (("to_cls", CLS), ("to_registers", REGISTER)):
        if n_keys := int(layout.called(name).sum()):
            scores[score] = n_keys / n
    return {name: scores[name] for name in NAMES if name in scores}


def counted_positions(layout: Layout) -> dict[str, int]:
    """Over how many rows of a pattern each score is a mean."""
    patches = {"distance": layout.rows * layout.columns}
    return {name: patches.get(name, layout.length) for name in uniform_scores(layout)}


def centred(A: Pattern) -> Float[Tensor, "*batch entry"]:
    """A pattern less the uniform one, as a vector of length 1; NaN of a pattern that is uniform, but for rounding."""
    difference = (A - 1 / A.shape[-1]).flatten(-2)
    length = difference.norm(dim=-1, keepdim=True)
    return (difference / length).masked_fill(length <= ROUNDING, torch.nan)
