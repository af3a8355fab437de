"""`Attention`: one head's pattern on one prompt, with its tokens, as a table, a chart and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from workbench import arguments
from workbench.core import Head
from workbench.plotting.charts import Heatmap

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure

#: Prompts of more tokens show their pattern as a picture, not as a table of cells.
LONG = 64
#: More positions than this are pooled in pictures.
FULL = 512
#: The colour of a weight of 1 (dark end of the sequential scale), mixed with the page's own background.
RED, GREEN, BLUE = 8, 81, 156


@dataclass(frozen=True, eq=False, repr=False)
class Attention:
    """One head's attention on one prompt.

    Attributes:
        tokens: the prompt's tokens as text.
        pattern: how much each destination attends to each source; rows sum to 1, less what a head's sink takes.
        head, model: which.

    Examples:
        >>> view = wb.attention_view(wb.load("tiny"), "Then, Mary and John", layer=1, head=3)
        >>> view.tokens
        ('Then', ',', ' Mary', ' and', ' John')
        >>> view.pattern.shape  # [dest, src]
        (5, 5)
    """

    tokens: tuple[str, ...]
    pattern: Float[np.ndarray, "dest src"]
    head: Head
    model: str = ""

    def table(self, dest: int = -1, k: int = 8) -> pd.DataFrame:
        """What one destination attends to most: ``source, token, weight``, the largest first.

        Raises:
            UsageError: the prompt has no such position.
        """
        import pandas as pd

        row, k = self.pattern[self._at(dest)], arguments.whole_number("k", k, at_least=1)
        order = np.argsort(-row, kind="stable")[:k]
        return pd.DataFrame({"source": order, "token": [self.tokens[i] for i in order], "weight": row[order]})

    def figure(self) -> Figure:
        """Interactive Plotly figure of the pattern."""
        return self._chart.figure()

    def picture(self) -> Picture:
        """The same, still, as a `matplotlib.figure.Figure`."""
        return self._chart.picture()

    @cached_property
    def _chart(self) -> Heatmap:
        """The pattern as a chart."""
        values, names, words = laid_out(self.pattern, numbered(self.tokens))
        title = f"Attention of head {self.head}" + (f" · {self.model}" if self.model else "")
        return Heatmap(values, names, names, title=title, scale="attention weight", limit=1.0, **words)

    def _at(self, dest: int) -> int:
        last = len(self.tokens) - 1
        return arguments.whole_number("dest", dest, at_least=-last - 1, at_most=last) % len(self.tokens)

    def __repr__(self) -> str:
        best = self.table(k=3)
        seen = ", ".join(f"{t!r} {w:.2f}" for t, w in zip(best["token"], best["weight"], strict=True))
        return f"Attention(head {self.head}, {len(self.tokens)} tokens; the last attends to {seen})"

    def _repr_html_(self) -> str:
        """The tokens shaded by what the last of them attends to, and the whole pattern below: point at a cell to read
        it. Plain HTML without scripts, so that it shows in a notebook that is not trusted, too."""
        from workbench.plotting import matplotlib_charts, notebook

        if len(self.tokens) > LONG:
            grid = notebook.image(matplotlib_charts.image(self.picture(), dpi=90), "picture of the pattern")
        else:
            grid = self._grid()
        return (
            f"<div><b>{escape(self._chart.title)}</b><br>What the last token attends to: "
            f"{coloured(self.tokens, self.pattern[-1], 1.0)}<i>{self._chart.subtitle}</i>{grid}</div>"
        )

    def _grid(self) -> str:
        head = "".join(
            f'<th style="writing-mode:vertical-rl;font-weight:normal">{escape(visible(token))}</th>'
            for token in self.tokens
        )
        causal = not np.triu(self.pattern, 1).any()
        names, rows = numbered(self.tokens), []
        for dest, row in enumerate(self.pattern):
            cells = "".join(
                f'<td title="{dest} {escape(repr(self.tokens[dest]))} to {src} {escape(repr(self.tokens[src]))}: '
                f'{weight:.3f}" style="{shade(weight)}width:12px;height:12px;padding:0"></td>'
                for src, weight in enumerate(row[: dest + 1] if causal else row)
            )
            rows.append(f'<tr><th style="text-align:right;font-weight:normal">{escape(names[dest])}</th>{cells}</tr>')
        return f'<table style="border-collapse:collapse;font-size:11px"><tr><th></th>{head}</tr>{"".join(rows)}</table>'


def laid_out(
    pattern: Float[np.ndarray, "dest src"], names: Sequence[str]
) -> tuple[np.ndarray, list[str], dict[str, Any]]:
    """A pattern as it is drawn, pooled where it is large, with its labels and the words that every picture has."""
    size = -(-len(names) // FULL)
    subtitle = "each row: the attention of one destination over the source positions"
    words = {
        "subtitle": subtitle + ("" if size == 1 else f"; pooled: each cell is the largest value of {size} × {size}"),
        "x_title": "source position (attended to)",
        "y_title": "destination position",
        "diverging": False,
    }
    return pooled(pattern, size), list(names)[::size], words


def numbered(tokens: Sequence[str]) -> list[str]:
    """The tokens with their positions, as labels."""
    return [f"{i} {visible(token)}" for i, token in enumerate(tokens)]


def coloured(tokens: Sequence[str], weights: Float[np.ndarray, " token"], largest: float | None = None) -> str:
    """HTML of the tokens, each shaded by its weight as a share of `largest` (the largest of them by default). Whatever
    a token holds is text: it is escaped here."""
    top = max(float(np.nanmax(weights)) if largest is None else largest, 1e-9)
    words = "padding:1px 0;unicode-bidi:isolate"  # in the order of the positions, whichever way a token is read
    spans = [
        f'<span title="{i} {escape(repr(token))}: {weight:.3f}" style="{shade(weight / top)}{words}">'
        f"{escape(visible(token))}</span>"
        for i, (token, weight) in enumerate(zip(tokens, weights, strict=True))
    ]
    style = "font-family:monospace;line-height:1.9;overflow-wrap:anywhere"
    return f'<div dir="ltr" style="{style}">{"<wbr>".join(spans)}</div>'


def pooled(pattern: Float[np.ndarray, "dest src"], size: int) -> Float[np.ndarray, "rows columns"]:
    """The value of largest magnitude in each block of ``size × size`` cells; the last ones may be smaller."""
    n = -(-len(pattern) // size)
    padded = np.zeros((n * size, n * size), pattern.dtype)
    padded[: len(pattern), : len(pattern)] = pattern
    blocks = padded.reshape(n, size, n, size).swapaxes(1, 2).reshape(n, n, size * size)
    return np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]


def visible(token: str) -> str:
    """A token with its white space to be seen: line breaks as ⏎, tabs as ⇥, a leading space as ·."""
    text = token.replace("\n", "⏎").replace("\t", "⇥")
    return "·" + text[1:] if text.startswith(" ") else text


def shade(weight: float) -> str:
    """The style of a token or a cell with that share of the darkest blue; white letters on dark ones."""
    share = float(np.clip(weight, 0, 1))
    return f"background:rgba({RED},{GREEN},{BLUE},{share:.2f});" + ("color:#fff;" if share > 0.55 else "")
