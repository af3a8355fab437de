"""A head's pattern as a figure, with its tokens; long ones pooled, with any block of them in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from app.shown import Shown
from workbench.attention_view import FULL, pooled, visible

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
    names = [f"{i} {visible(token)}" for i, token in enumerate(tokens)]
    subtitle = "each row is a position, its columns are what it attends to"
    if len(tokens) > FULL and block is None:
        size = -(-len(tokens) // FULL)
        pattern, names = pooled(pattern, size), names[::size]
        subtitle += f"; pooled: each cell is the largest of {size} × {size}"
    elif block is not None:
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        pattern, names = pattern[part, part], names[part]
        subtitle += f"; positions {part.start} to {part.start + len(names) - 1} of {len(tokens)}"
    words: dict[str, Any] = {
        "title": title,
        "subtitle": subtitle,
        "scale": scale,
        "x_title": "attended to (source)",
        "y_title": "position (destination)",
        "diverging": signed,
    }
    return Shown("heatmap", (pattern,), (names, names), words)


def blocks(length: int) -> list[str]:
    """The names of the blocks of a long prompt; empty for short ones."""
    if length <= FULL:
        return []
    return [f"{i} to {min(i + BLOCK, length) - 1}" for i in range(0, length, BLOCK)]
