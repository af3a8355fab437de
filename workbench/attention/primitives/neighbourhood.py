"""Windows of generalised neighbourhood attention, axis by axis, as NATTEN 0.21 defines them.

Along an axis of n positions, with window w, stride s and dilation d: position i lies in the line of residue
``r = i mod d``, as ``i' = i div d`` of ``m = ⌈(n − r) / d⌉``, and sees positions of that line alone, ``j = r + d j'``.
All s positions of a group ``i' div s`` see what its leader sees:

- not causal: leader ``min(s ⌊i'/s⌋ + ⌊s/2⌋, m − 1)``; w positions around it, ``⌊w/2⌋`` of them before, moved inward at
  the ends;
- causal: leader ``min(s ⌊i'/s⌋ + s − 1, m − 1)``; the w positions that end in it, of which those after i' itself are
  left out.

Without n (a sequence of which only the beginning is known, as in a causal model) all groups are whole ones. A line that
is shorter than the window is seen whole (NATTEN refuses it). Axes combine by *and*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

#: Longer than any line.
WHOLE = 1 << 60


@dataclass(frozen=True)
class Axis:
    """The window along one axis."""

    window: int
    stride: int = 1
    dilation: int = 1
    causal: bool = False

    def ends(self, place: Int[Tensor, "*place"], length: Tensor | int | None) -> tuple[Tensor, Tensor]:
        """The first and the last position that each of these places sees, on its own line; a causal one needs no
        length."""
        residue, at = place % self.dilation, place // self.dilation
        group = at // self.stride * self.stride
        line = at.new_tensor(WHOLE) if length is None else (length - residue + self.dilation - 1) // self.dilation
        if self.causal:
            leader = torch.minimum(group + self.stride - 1, line - 1)
            first, last = (leader - self.window + 1).clamp(min=0), at
        else:
            leader = torch.minimum(group + self.stride // 2, line - 1)
            first = torch.minimum(leader - self.window // 2, line - self.window).clamp(min=0)
            last = torch.minimum(first + self.window, line) - 1
        return residue + self.dilation * first, residue + self.dilation * last

    def sees(
        self, destination: Int[Tensor, "*dest"], source: Int[Tensor, "*src"], length: Tensor | int | None
    ) -> Bool[Tensor, "*mask"]:
        """Whether each destination sees each source, where the two broadcast."""
        first, last = self.ends(destination, length)
        inside = (source >= first) & (source <= last)
        return inside if self.dilation == 1 else inside & ((source - destination) % self.dilation == 0)


def mask(
    axes: Sequence[Axis], grid: Sequence[int | None], destination: Int[Tensor, "dest"], source: Int[Tensor, "src"]
) -> Bool[Tensor, "dest src"]:
    """Which positions of a grid, numbered row by row, see which; ``(None,)`` is a sequence without end."""
    seen = torch.ones(len(destination), len(source), dtype=torch.bool, device=source.device)
    inner = 1
    for axis, size in reversed(list(zip(axes, grid, strict=True))):
        to, of = (position // inner % (size or WHOLE) for position in (destination, source))
        seen &= axis.sees(to[:, None], of, size)
        inner *= size or 1
    return seen
