"""Tokens as coloured text. Whatever a token holds is text: it is escaped here, and nowhere else made into HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import Float

from workbench.attention_view import shade, visible


def coloured(tokens: Sequence[str], weights: Float[np.ndarray, " token"], largest: float | None = None) -> str:
    """HTML of the tokens, each shaded by its weight as a share of `largest` (the largest of them by default)."""
    top = max(float(np.nanmax(weights)) if largest is None else largest, 1e-9)
    spans = [
        f'<span title="{i} {escape(repr(token))}: {weight:.3f}" style="{shade(weight / top)}padding:1px 0;'
        f'border-radius:2px">{escape(visible(token))}</span>'
        for i, (token, weight) in enumerate(zip(tokens, weights, strict=True))
    ]
    return f'<div style="font-family:monospace;line-height:1.9;overflow-wrap:anywhere">{"".join(spans)}</div>'
