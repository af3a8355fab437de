"""A head's pattern as a figure, with its tokens; long ones pooled, with any block of them in full."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from app.shown import Shown
from workbench.attention_view import FULL, laid_out, numbered

#: Rows and columns of a block that is shown in full.
BLOCK = 256


def shown(
    pattern: Float[np.ndarray, "dest src"],
    tokens: Sequence[str],
    *,
    title: str,
    scale: str,
    block: int | None = None,
    signed: bool = False,
) -> Shown:
    """The pattern to be shown.

    Args:
        block: of a long prompt, which block of `BLOCK` positions is shown in full; None pools them all.
        signed: differences of two patterns, on a scale centred on zero.
    """
    names, where = numbered(tokens), ""
    if block is not None:
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        pattern, names = pattern[part, part], names[part]
        where = f"; positions {part.start} to {part.start + len(names) - 1} of {len(tokens)}"
    values, labels, words = laid_out(pattern, names)
    words |= {"title": title, "scale": scale, "diverging": signed, "subtitle": words["subtitle"] + where}
    return Shown("heatmap", (values,), (labels, labels), words)


def blocks(length: int) -> list[str]:
    """The names of the blocks of a long prompt; empty for short ones."""
    if length <= FULL:
        return []
    return [f"{i} to {min(i + BLOCK, length) - 1}" for i in range(0, length, BLOCK)]
