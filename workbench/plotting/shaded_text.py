"""A prompt's text shaded by a weight of each position, as plain HTML without scripts or style sheets."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import Bool, Float

from workbench.io.written_text import Piece
from workbench.plotting.colour_scale import ColourScale

#: The colour of the largest weight and its opacity: text in a page's own colour stays legible on it in light and dark
#: themes (contrast above 4.5:1).
RED, GREEN, BLUE, OPACITY = 20, 120, 220, 0.7
#: The frame of the token that is asked about.
ASKING = "#e69f00"
#: The mark where a token begins.
BEGIN = "rgba(128,128,128,0.75)"
#: Shown of a position that a mask hides, in place of its weight.
MASKED = "masked, no attention is possible"
#: Shown for a token without a visible character.
NOTHING = "∅"
FRAME = f"outline:2px solid {ASKING};outline-offset:-1px;"


def shaded_text(
    pieces: Sequence[Piece],
    labels: Sequence[str],
    weights: Float[np.ndarray, " pos"],
    *,
    asking: int | None = None,
    scale: ColourScale | None = None,
    what: str = "attention weight",
    masked: Bool[np.ndarray, " pos"] | None = None,
) -> str:
    """HTML of a prompt, shaded by one weight per position, with its legend. Whatever a token holds is text: it is
    escaped here.

    Where a token begins is a thin line. Tokens that share a character are shown as one, in the shade of the largest of
    their weights; the text below the pointer has each.

    Args:
        pieces: of the prompt's text, from `workbench.io.written_text`.
        labels: of the positions.
        asking: the position that gets a frame.
        scale: of the colours; 0 to 1 by default.
        what: what a weight is.
        masked: the positions that a mask hides, whose weight is not a measured 0.
    """
    scale = scale or ColourScale()
    spans = "".join(_span(piece, labels, weights, scale, asking, masked) for piece in pieces)
    text = "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.9"
    return f'<div dir="auto" style="{text}">{spans}</div>{legend(scale, what)}'


def legend(scale: ColourScale, what: str, pair: bool = False) -> str:
    """HTML of one line: the values of the scale on their shades, and the marks; with that of a paired token."""
    swatches = "".join(
        f'<span style="{shade(share)}padding:0 6px">{escape(text)}</span>' for _, share, text in scale.ticks()
    )
    name = f" ({scale.name})" if scale.name else ""
    dotted = f"outline:2px dotted {ASKING};outline-offset:-1px;padding:0 4px;margin-left:8px"
    paired = f' <span style="{dotted}">paired</span>' if pair else ""
    return (
        f'<div dir="ltr" style="font-size:12px;line-height:1.9">{escape(what + name)} {swatches} '
        f'<span style="{_mark("L")}padding-left:4px;margin-left:8px">token begins</span> '
        f'<span style="{FRAME}padding:0 4px;margin-left:8px">asked about</span>{paired}</div>'
    )


def _span(
    piece: Piece,
    labels: Sequence[str],
    weights: Float[np.ndarray, " pos"],
    scale: ColourScale,
    asking: int | None,
    masked: Bool[np.ndarray, " pos"] | None,
) -> str:
    own = np.asarray(weights, float)[list(piece.positions)]
    largest = own[np.isfinite(own)].max(initial=-np.inf)
    share = float(scale.shares(np.array(largest))) if np.isfinite(largest) else 0.0
    style = shade(share) + _mark(direction(piece.text)) + (FRAME if asking in piece.positions else "")
    texts = [MASKED if masked is not None and masked[i] else f"{weights[i]:.3f}" for i in piece.positions]
    title = "\n".join(f"{i} {labels[i]!r}: {text}" for i, text in zip(piece.positions, texts, strict=True))
    return f'<span title="{escape(title)}" style="{style}">{_visible(piece.text)}</span>'


def _visible(text: str) -> str:
    """The text, with a mark for each line break and for a token that shows nothing; they are not copied with it."""
    marked = escape(text)
    for ending in ("\r\n", "\n", "\r"):
        if ending in marked:
            marked = marked.replace(ending, _aside("⏎") + ending)
            break
    return marked if is_visible(text) else _aside(NOTHING) + marked


def _aside(mark: str) -> str:
    return f'<span aria-hidden="true" style="user-select:none;opacity:.7">{mark}</span>'


def is_visible(text: str) -> bool:
    """Whether a text has a character that takes room: joiners and other controls take none."""
    return any(unicodedata.category(letter) not in ("Cc", "Cf", "Mn") or letter in "\n\t" for letter in text)


def direction(text: str) -> str:
    """``R`` for a text that is written from the right, by its first strong character; else ``L``."""
    classes = (unicodedata.bidirectional(letter) for letter in text)
    return next(("R" if kind in ("R", "AL") else "L" for kind in classes if kind in ("L", "R", "AL")), "L")


def shade(share: float) -> str:
    """The style of a share of the scale."""
    return f"background:rgba({RED},{GREEN},{BLUE},{OPACITY * float(np.clip(share, 0, 1)):.3f});"


def _mark(side: str) -> str:
    """The thin line where a token begins. It is no border, which would take room and break joined letters."""
    return f"box-shadow:inset {1 if side == 'L' else -1}px 0 0 {BEGIN};"
